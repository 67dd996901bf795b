"""The command `deft demo`."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.connect import data_folder
from cli.demo import checks, origin
from cli.demo.failure import DemoFailed
from cli.demo.flow import Checks, Results, cancel_earlier_runs, check, download, run_pipeline, step, upload
from cli.demo.options import FAST_GFLOPS, MODEL_NAME, SMALLER, DemoOptions, measure_gflops
from cli.demo.report import commands, print_report, write_report
from cli.demo.server import Server
from cli.failures import HANDLED, JOB_FAILED, explain
from cli.output import duration_text, say
from cli.serve import models_cache
from deft_client import Client

Count = Annotated[int | None, typer.Option(min=1)]


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Preference pairs of any supported format and size; else DEFT_DEMO_DATA, ...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the downloads go.")] = Path("demo-output"),
    folder: Annotated[
        Path | None, typer.Option("--data-folder", help="The demo server's own folder. [default: deft-data/demo]")
    ] = None,
    keep_running: Annotated[bool, typer.Option("--keep-running", help="Leave the server running.")] = False,
    score_sample: Annotated[int | None, typer.Option(min=8, help="Pairs scored.")] = None,
    keep: Annotated[
        float | None, typer.Option(min=0.001, max=1.0, help="Share of the scored pairs that is kept.")
    ] = None,
    epochs: Count = None,
    batch_size: Count = None,
    random_draws: Count = None,
    pairs: Annotated[int | None, typer.Option(min=1, help="Held-out pairs judged by likelihood.")] = None,
    prompts: Annotated[int | None, typer.Option(min=0, help="Held-out prompts that are answered.")] = None,
    max_new_tokens: Count = None,
    max_prompt_tokens: Count = None,
    max_total_tokens: Annotated[int | None, typer.Option(min=2, help="Prompt and response together.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Do the whole job on real pairs and a small model: upload, score, select, train, compare, download, check.

    Sizes that are not given follow from the machine's speed, so that the demo ends within ten minutes.
    """
    asked = {"score_sample": score_sample, "keep": keep, "epochs": epochs, "batch_size": batch_size}
    asked |= {"random_draws": random_draws, "pairs": pairs, "prompts": prompts, "max_new_tokens": max_new_tokens}
    asked |= {"max_prompt_tokens": max_prompt_tokens, "max_total_tokens": max_total_tokens}
    options = _options(asked, out, seed)
    home = (folder or data_folder() / "demo").absolute()
    server = Server(home, models_cache(), is_to_stay=keep_running)
    is_up = False
    try:
        is_up = _run(server, data, options)
    except (DemoFailed, *HANDLED) as error:
        code = _give_up(error, server)
        raise typer.Exit(code) from error
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(130) from None
    finally:
        if not is_up:
            server.stop()


def _options(asked: dict[str, int | float | None], out: Path, seed: int) -> DemoOptions:
    gflops = measure_gflops()
    is_fast = gflops >= FAST_GFLOPS
    say(f"this machine does {gflops:.0f} GFLOP/s in float32: {'the usual' if is_fast else 'smaller'} sizes")
    sizes = {**({} if is_fast else SMALLER), **{name: value for name, value in asked.items() if value is not None}}
    return DemoOptions(out=out, seed=seed, **sizes)  # type: ignore[arg-type]


def _run(server: Server, data: Path | None, options: DemoOptions) -> bool:
    """Do it all; return whether the server goes on."""
    started_at = time.monotonic()
    base = models_cache() / MODEL_NAME
    with step("model: SmolLM2-135M-Instruct (Apache-2.0), weights of a 4-bit GGUF file written out as float32"):
        checks.model(base)
        say(f"   {base}")
    where = origin.find(data, server.folder)
    with step("server: deft serve (SQLite, a folder, an embedded broker; API and worker as child processes)"):
        url, key = server.start(upload_bytes=sum(path.stat().st_size for path in where.files))
        say(f"   {url}, data and logs in {server.folder}")
    with Client(url, key) as client:
        results = _through_the_service(client, where, options, server)
        with step(f"download over HTTP into {options.out}/"):
            download(client, results, options.out)
    with step("check the downloads, each in a fresh process"):
        found = check(options.out, base, Checks())
    took = duration_text(time.monotonic() - started_at)
    next_commands = commands(results, options, _deft(), url, key, server)
    write_report(options.out, where, options, results, found, took)
    print_report(where, results, found, took)
    for line in next_commands:
        print(line)
    return server.is_to_stay


def _through_the_service(client: Client, where: origin.Origin, options: DemoOptions, server: Server) -> Results:
    cancel_earlier_runs(client)
    with step(f"upload: {where.label}"):
        dataset = upload(client, where)
    with step("one pipeline job: score, select, train each arm, evaluate, compare"):
        for line in options.lines():
            say(f"   {line}")
        return run_pipeline(client, dataset, options, server.check)


def _give_up(error: Exception, server: Server) -> int:
    code = explain(error) if isinstance(error, HANDLED) else JOB_FAILED
    if isinstance(error, DemoFailed):
        say(f"error: {error}")
    say(f"the demo failed; its logs: {server.folder / 'logs'} (serve.log, api.log, worker.log)")
    return code


def _deft() -> str:
    """Return how this user types `deft`."""
    if shutil.which("deft"):
        return "deft"
    beside = Path(sys.executable).parent / "deft"
    return os.path.relpath(beside) if beside.exists() else "python -m cli.main"
