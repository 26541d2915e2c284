"""However slow some slaves are, each gets its turn: the one that waited longest is first."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.simulation.network import NetworkFault, SimulatedClient
from portable_core.adapters.memory_store import MemoryStore
from portable_core.adapters.simulated_clock import SimulatedClock
from portable_core.ingest.receiver import Receiver
from portable_core.ports import SlaveState
from portable_core.records import Meta
from portable_core.settings import Settings
from portable_core.sync.master import Master
from portable_core.sync.report import SlaveReport
from portable_core.sync.slave import Slave


class Rig:
    """A master and slaves in memory; ``pauses`` has the seconds that 64 bytes take from a slave."""

    def __init__(self, pauses: dict[str, float], **env: str) -> None:
        self.clock = SimulatedClock()
        self.pauses = pauses
        self.look: Callable[[str], None] = lambda name: None
        self._env = {"STORE": "memory:", "SYNC_AUTH": "none", **env}
        self.slaves = {name: Slave(self._make_receiver("slave", MemoryStore())) for name in pauses}
        for name, slave in self.slaves.items():
            for number in range(5 if name == "c" else 500):
                slave.receiver.receive(b'{"%s":%d}' % (name.encode(), number), Meta())
        self.clock.sleep(600)
        self.store = MemoryStore()
        self.start_master()

    def _make_receiver(self, role: str, store: MemoryStore) -> Receiver:
        settings = Settings.from_env("master" if role == "master" else "slave", self._env)
        return Receiver(settings, store, self.clock)

    def start_master(self) -> None:
        receiver = self._make_receiver("master", self.store)
        self.master = Master(receiver, self.store, [self._make_client(n) for n in self.slaves])

    def _make_client(self, name: str) -> SimulatedClient:
        def pause() -> None:
            self.clock.sleep(self.pauses[name])
            self.look(name)

        return SimulatedClient(
            name, lambda: self.slaves[name], pause=pause, pick_fault=lambda: NetworkFault(chunk=64)
        )

    def sync(self) -> list[SlaveReport]:
        """The reports in the order of the turns. Some time passes after the sync."""
        reports = list(self.master.sync().slaves)
        self.clock.sleep(60)
        return reports

    def state(self, name: str) -> SlaveState:
        return self.store.slave_states().get(name, SlaveState())


def names(reports: list[SlaveReport]) -> list[str]:
    return [report.slave for report in reports]


def test_a_slave_without_a_turn_is_first_in_the_next_sync() -> None:
    rig = Rig({"a": 5, "b": 5, "c": 0})
    *_, left_out = rig.sync()
    assert left_out.slave == "c"
    assert left_out.started == 0
    assert left_out.warning.startswith("not begun: SYNC_BUDGET_S was used up")
    assert left_out.ok
    assert rig.state("c") == SlaveState()
    first, *_ = rig.sync()
    assert first.slave == "c"
    assert first.saved == 5


def test_a_slave_with_a_rest_of_a_turn_is_first_in_the_next_sync() -> None:
    # A second is left for c, which needs it to say what it has.
    rig = Rig({"a": 10, "b": 10, "c": 1}, SYNC_SLAVE_S="100", SYNC_BUDGET_S="201")
    *_, cut_short = rig.sync()
    assert cut_short.slave == "c"
    assert cut_short.started > 0
    assert cut_short.windows == 0
    first, *_ = rig.sync()
    assert first.slave == "c"
    assert first.saved == 5


def test_a_slave_that_uses_up_the_whole_sync_does_not_stay_first() -> None:
    rig = Rig({"a": 30, "b": 0, "c": 0}, SYNC_BUDGET_S="100")
    used_up, *left_out = rig.sync()
    assert used_up.error.startswith("Limit reached: nothing could be saved within SYNC_SLAVE_S")
    assert all(report.ok for report in left_out)
    assert names(rig.sync()) == ["b", "c", "a"]


def test_a_slave_without_a_turn_because_of_a_stop_keeps_its_place() -> None:
    rig = Rig({"a": 0, "b": 0, "c": 0})
    assert names(rig.sync()) == ["a", "b", "c"]
    rig.look = lambda name: rig.master.stop() if name == "a" else None
    _, *left_out = rig.sync()
    assert all("gave way to a hand-over or a stop" in report.warning for report in left_out)
    began = [rig.state(name).report["started"] for name in "bc"]
    rig.look = lambda name: None
    rig.start_master()
    rig.sync()
    assert all(rig.state(name).report["started"] > began[0] for name in "bc")  # type: ignore[operator]  # integers


def test_a_late_slave_without_a_turn_is_an_error() -> None:
    rig = Rig({"a": 0, "b": 0, "c": 0}, CONSOLE_LATE_S="900")
    assert all(report.saved for report in rig.sync())
    rig.clock.sleep(900)
    rig.pauses["a"] = 150
    rig.pauses["b"] = 150
    *_, left_out = rig.sync()
    assert left_out.slave == "c"
    assert left_out.error.startswith("not begun: ")
    assert left_out.cursor == rig.state("c").cursor
    assert rig.state("c").report["error"] == ""


def test_a_limit_below_one_record_lets_one_through_each_time() -> None:
    rig = Rig({"c": 0}, SYNC_SLAVE_BYTES="1")
    for count in range(1, 6):
        (report,) = rig.sync()
        assert (report.saved, report.error) == (1, ""), count
    (report,) = rig.sync()
    assert report.warning == ""
    assert report.behind_ms == 0
