from crcmod import predefined as predefined
from crcmod.crcmod import Crc as Crc
from crcmod.crcmod import mkCrcFun as mkCrcFun
