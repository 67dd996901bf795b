import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cli.supervisor import Program, Supervisor

LIVE = "import os,sys,time; open(sys.argv[1],'a').write(f'{os.getpid()}\\n'); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LIVE


def program(tmp_path: Path, script: str, name: str = "one") -> Program:
    return Program(name, [sys.executable, "-c", script, str(tmp_path / f"{name}.pids")], tmp_path / f"{name}.log")


def pids(tmp_path: Path, name: str = "one") -> list[int]:
    path = tmp_path / f"{name}.pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def run_until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    def on_tick() -> None:
        if condition():
            supervisor.stopping.set()

    supervisor.run(on_tick)


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    one = program(tmp_path, LIVE)
    supervisor = Supervisor([one], os.environ)
    supervisor.start()
    run_until(supervisor, lambda: pids(tmp_path))
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    supervisor.stopping.clear()
    run_until(supervisor, lambda: len(pids(tmp_path)) == 2)
    supervisor.stop()
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_each_early_death_makes_the_pause_longer(tmp_path: Path) -> None:
    one = program(tmp_path, "")
    one.started_at = time.monotonic()
    assert [one.schedule_restart() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    one.started_at = time.monotonic() - 61
    assert one.schedule_restart() == 0.5


def test_what_does_not_stop_in_time_is_ended(tmp_path: Path) -> None:
    one = program(tmp_path, STUBBORN)
    supervisor = Supervisor([one], os.environ, stop_seconds=0.3)
    supervisor.start()
    wait_for(lambda: pids(tmp_path))
    supervisor.stop()
    assert not is_alive(pids(tmp_path)[0])


def test_the_log_has_what_the_program_wrote(tmp_path: Path) -> None:
    one = program(tmp_path, "print('hello'); raise SystemExit('broken')")
    one.start(os.environ)
    assert one.process is not None
    assert one.process.wait(15) == 1
    one.has_died()
    assert one.log_tail() == "hello\nbroken" or one.log_tail() == "broken\nhello"


def test_no_orphan_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from cli.supervisor import *\n"
        "folder = Path(sys.argv[1]); live = sys.argv[2]\n"
        "names = ('one', 'two')\n"
        "command = lambda name: [sys.executable, '-c', live, str(folder / f'{name}.pids')]\n"
        "programs = [Program(name, command(name), folder / 'log') for name in names]\n"
        "supervisor = Supervisor(programs, os.environ); supervisor.start(); supervisor.run()\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), STUBBORN])
    try:
        wait_for(lambda: pids(tmp_path, "one") and pids(tmp_path, "two"))
    finally:
        supervisor.kill()
        supervisor.wait()
    started = pids(tmp_path, "one") + pids(tmp_path, "two")
    wait_for(lambda: not any(is_alive(pid) for pid in started))


def test_sigterm_reaches_the_programs_and_all_end(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from cli.supervisor import *\n"
        "folder = Path(sys.argv[1]); live = sys.argv[2]\n"
        "command = [sys.executable, '-c', live, str(folder / 'one.pids')]\n"
        "supervisor = Supervisor([Program('one', command, folder / 'log')], os.environ)\n"
        "supervisor.listen(); supervisor.start(); supervisor.run(); supervisor.stop(); print('stopped')\n"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), LIVE], stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: pids(tmp_path))
    supervisor.terminate()
    printed, _ = supervisor.communicate(timeout=15)
    assert printed == "stopped\n"
    assert supervisor.returncode == 0
    assert not is_alive(pids(tmp_path)[0])
