"""Every kind of fault, in the order in which they are tried."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.kinds.asking import Cancel, PostAtOnce
from tests.faults.kinds.broker import DoubleMessages, KillBroker, LoseMessages, PauseBroker
from tests.faults.kinds.clocks import ShiftClock
from tests.faults.kinds.database import CrashDatabase, CutCommit, CutHeartbeat
from tests.faults.kinds.disk import FillDisk
from tests.faults.kinds.freezing import FreezeWorker
from tests.faults.kinds.killing import KillApi, KillChild, KillWorker
from tests.faults.kinds.stopping import StopFinishing, StopIdle, StopLoading, StopStoring, StopTraining
from tests.faults.kinds.store import StoreCutsShort, StoreErrors

FAULTS: tuple[Fault, ...] = (
    KillWorker(),
    KillChild(),
    KillApi(),
    FreezeWorker(),
    StopIdle(),
    StopLoading(),
    StopTraining(),
    StopStoring(),
    StopFinishing(),
    Cancel(),
    PostAtOnce(),
    KillBroker(),
    PauseBroker(),
    LoseMessages(),
    DoubleMessages(),
    CrashDatabase(),
    CutCommit(),
    CutHeartbeat(),
    StoreErrors(),
    StoreCutsShort(),
    ShiftClock(),
    FillDisk(),
)
