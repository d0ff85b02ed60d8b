"""The command line: one function a verb; each hands over to the module that does the work."""

from __future__ import annotations

import os
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cluster.verbs import SET_HELP, add_job_verbs, cluster_app
from orchestrator.completion import complete_sweep, complete_table, one_of
from orchestrator.console import Verbs, emit, exit_codes, stdout, write_event
from orchestrator.datasets.sources import SOURCES
from orchestrator.exits.verbs import exits
from orchestrator.panels import RootVerbs, put_into_panels
from orchestrator.space_names import complete_space, complete_space_or_sweep
from orchestrator.starting.verbs import add_start_verbs
from orchestrator.tables.choices import CHOICES
from orchestrator.watching.verbs import LogFormat, watch

app = typer.Typer(
    name="fatefront",
    cls=RootVerbs,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    cls=Verbs,
    help="Fetch, inspect and prepare data sets, find duplicates in them, write a synthetic one.",
)
app.add_typer(data_app, name="data")
app.add_typer(cluster_app, name="cluster")

Space = Annotated[
    str,
    typer.Argument(
        help="A name (quickstart), FILE.py:FUNCTION, or a YAML file.",
        autocompletion=complete_space,
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        help="A search space, or a data set: '{name: ham10000, root: DIR}'.", metavar="SPACE",
        autocompletion=complete_space,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")
]
Split = Annotated[
    str,
    typer.Option(
        help="validation, or test: opens it, and the ledger says so.",
        autocompletion=one_of("validation", "test"),
    ),
]
Dir = Annotated[
    Path,
    typer.Argument(
        help="Folder of a sweep.", metavar="DIR", file_okay=False, autocompletion=complete_sweep
    ),
]


def _version(asked: bool) -> None:
    if asked:
        stdout.out(f"fatefront {installed_version('fatefront')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and exit.")
    ] = False,
) -> None:
    """Find the accuracy-fairness trade-offs that channel pruning can buy."""


@app.command()
def run(
    space: Space,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; if not given: runs/NAME.")
    ] = None,
    overrides: Overrides = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Most trials to compute in this folder, those of earlier runs included; what is "
            "cached is free."
        ),
    ] = None,
    configurations: Annotated[
        int | None, typer.Option(help="Proposed configurations in all.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Start nothing new after this long.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Trials at once; if not given: all cores or GPUs.")
    ] = None,
    gpus_per_trial: Annotated[
        str | None,
        typer.Option(
            metavar="FLOAT|auto",
            help="0, a share below 1, 1, a number of GPUs that train each trial together, or "
            "`auto`: measure once how many trials share a GPU.",
            autocompletion=one_of("auto"),
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="FATEFRONT_STORE",
            help="Where nodes live, any fsspec URI; if not given: DIR/store.",
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            envvar="FATEFRONT_TRACKING_URI",
            help="MLflow, or `none`; if not given: sqlite:///DIR/mlflow.db.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the sampler (not of the trials).")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="`auto` on a Ray head; http://HEAD:8265: a job there.")
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(help="GB of a remote store's files kept on each machine; if not given: 10."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed trials again.")
    ] = False,
    max_disk: Annotated[
        float | None,
        typer.Option(help="GB of the sweep's nodes; models that nobody needs are dropped."),
    ] = None,
    stalled_after: Annotated[
        float | None,
        typer.Option(help="Minutes without a batch: the trial is run again; 0: never."),
    ] = None,
    checkpoint_every: Annotated[
        float | None,
        typer.Option(
            help="Seconds of a trial's training between two checkpoints (60); 0: none."
        ),
    ] = None,
    log_format: LogFormat = "text",
    notify: Annotated[
        str | None,
        typer.Option(
            envvar="FATEFRONT_NOTIFY", metavar="COMMAND|URL",
            help="Command, or http(s) webhook, told when the sweep ends or fails.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run a sweep or go on with it: the same command resumes, a larger one extends."""
    with exit_codes(json, resumes=True, json_log=log_format == "json"):
        from orchestrator.run import RunOptions, render_run, run_space
        from orchestrator.running.resources import parse_gpus
        from orchestrator.watching.log import parse_format

        options = RunOptions(
            space=space, out=out, overrides=tuple(overrides or ()), trials=trials,
            configurations=configurations, hours=hours, workers=workers,
            gpus_per_trial=parse_gpus(gpus_per_trial), store=store, tracking_uri=tracking_uri,
            seed=seed, address=address, retry_failed=retry_failed, max_disk=max_disk,
            cache_gb=cache_gb, stalled_after=stalled_after, quiet=json,
            checkpoint_every=checkpoint_every, log_format=parse_format(log_format), notify=notify,
        )  # fmt: skip
        from orchestrator.cluster.run_as_job import is_job_server, run_as_job

        if address is not None and is_job_server(address):
            submitted, code = run_as_job(options, address)
            if json:
                emit(submitted, json, str)
            raise typer.Exit(code)
        document = run_space(options)
        if log_format == "json":
            write_event("ended", exit_code=document["exit_code"])
        emit(document, json, render_run)
        if document["exit_code"]:
            raise typer.Exit(document["exit_code"])


@app.command()
def plan(space: Space, overrides: Overrides = None, json: Json = False) -> None:
    """Show the tree a sweep would run: trials, time and disk, with and without sharing.

    Nothing is run.
    """
    with exit_codes(json):
        from orchestrator.plan import plan_space, render_plan
        from orchestrator.spaces import load_space

        emit(plan_space(load_space(space, overrides or ())), json, render_plan)


@app.command()
def show(
    space: Annotated[
        str,
        typer.Argument(
            help="A search space, or the folder of a sweep.",
            autocompletion=complete_space_or_sweep,
        ),
    ],
    overrides: Overrides = None,
    key: Annotated[
        str | None, typer.Option(help="With a folder: the YAML of one trial, for `trial`.")
    ] = None,
) -> None:
    """Print the resolved spec as YAML, which `run` accepts and which leads to the same keys."""
    with exit_codes():
        from orchestrator.show import show_yaml

        stdout.out(show_yaml(space, overrides or (), key), highlight=False, end="")


@app.command()
def status(
    where: Annotated[
        str,
        typer.Argument(
            help="Folder of a sweep, or a job's name.", metavar="DIR|JOB",
            autocompletion=complete_sweep,
        ),
    ],
    address: Annotated[
        str | None, typer.Option(help="For a job: the head's dashboard, http://HOST:8265.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what is done, running, failed and cached, what is best so far, and what went wrong."""
    with exit_codes(json):
        from orchestrator.cluster.job_status import render_any_status, status_of
        from orchestrator.cluster.verbs import HERE

        default = os.environ.get("RAY_API_SERVER_ADDRESS", HERE)
        emit(status_of(where, address, default), json, render_any_status)


app.command()(watch)
app.command()(exits)


@app.command()
def export(
    folder: Dir,
    to: Annotated[Path, typer.Option(help="Where to write.")],
    no_test: Annotated[
        bool, typer.Option("--no-test", help="Leave the test split sealed.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also each model as ONNX, checked against itself.")
    ] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="Also each model as a torch.export program.")
    ] = False,
    register: Annotated[
        bool, typer.Option("--register", help="Also in MLflow's registry, with aliases.")
    ] = False,
    remake: Annotated[
        bool, typer.Option("--remake", help="Train models again that were dropped.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the Pareto front and its models; opens the members' test split.

    The front as front.csv, .json, .parquet, .html, .png, .pdf and .tex, the models as folders with
    a card and the licence of the data.
    """
    with exit_codes(json):
        from orchestrator.models.publish import ExportOptions, publish, render_published

        asked = {"onnx": onnx, "torch_export": torch_export}
        graphs = tuple(name for name, wanted in asked.items() if wanted)
        options = ExportOptions(not no_test, graphs, register, remake)
        emit(publish(folder, to, options), json, render_published)


@app.command()
def report(
    folder: Dir,
    to: Annotated[
        Path | None, typer.Option(help="File to write; if not given: DIR/report.html.")
    ] = None,
    split: Split = "validation",
    images: Annotated[
        bool, typer.Option("--images", help="Show images of the data; mind their licence.")
    ] = False,
    json: Json = False,
) -> None:
    """Write everything a sweep shows as one HTML file that opens from disk."""
    with exit_codes(json):
        from orchestrator.report.page import ReportOptions, render_report, write_report

        options = ReportOptions(split=split, images=images)
        emit(write_report(folder, to, options), json, render_report)


@app.command()
def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="CSV or Parquet with labels, predictions and groups; one a seed.",
            autocompletion=complete_table,
        ),
    ],
    label: Annotated[str, typer.Option(help="Column of the true class.")] = "y_true",
    prediction: Annotated[str, typer.Option(help="Column of the predicted class.")] = "y_pred",
    group: Annotated[
        str, typer.Option(help="Column of the group; sex,age for intersections.")
    ] = "group",
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Predictions of the reference model, once a seed: adds FATE.",
            autocompletion=complete_table,
        ),
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Column of the patient or lesion.")] = None,
    image: Annotated[
        str | None, typer.Option(help="Column of the image: matches rows of several files.")
    ] = None,
    probabilities: Annotated[
        str | None, typer.Option(help="Columns of class probabilities: p_0,p_1,...")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(help="corrected or paper.", autocompletion=one_of("corrected", "paper")),
    ] = "corrected",
    absent: Annotated[
        str | None,
        typer.Option(
            help="Classes a group lacks: skip, or zero (as --mode paper, two groups).",
            autocompletion=one_of("skip", "zero"),
        ),
    ] = None,
    min_support: Annotated[int, typer.Option(help="Groups with fewer rows: not assessed.")] = 1,
    within: Annotated[
        str | None, typer.Option(help="Columns that the floor keeps fixed: age,site.")
    ] = None,
    malignant: Annotated[
        str | None, typer.Option(help="Malignant classes, mel,bcc: sensitivity, underdiagnosis.")
    ] = None,
    specificity: Annotated[float, typer.Option(help="At which sensitivity is measured.")] = 0.9,
    replicates: Annotated[int, typer.Option(help="Of patients, and of permutations.")] = 2000,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page: gaps, groups, confusion matrices.")
    ] = None,
    json: Json = False,
) -> None:
    """Compute every metric, with intervals and floors, for predictions of any model."""
    with exit_codes(json):
        from orchestrator.evaluation.evaluate import evaluate_file, render

        columns = probabilities.split(",") if probabilities else None
        result = evaluate_file(
            predictions, label=label, prediction=prediction, group=group, reference=reference,
            patient=patient, image=image, probabilities=columns, absent=absent,
            mode=mode,  # type: ignore[arg-type]
            min_support=min_support, within=within, malignant=malignant, specificity=specificity,
            replicates=replicates, keep_counts=html is not None,
        )  # fmt: skip
        if html is not None:
            from orchestrator.evaluation.page import write_page

            write_page(result, html)
        emit(result, json, render)


@app.command()
def tables(
    folder: Dir,
    format: Annotated[
        str, typer.Option(help="md, latex or csv.", autocompletion=one_of(*CHOICES["--format"]))
    ] = "md",
    style: Annotated[
        str,
        typer.Option(
            help="default (ties with the best), or paper (bold best, as published).",
            autocompletion=one_of(*CHOICES["--style"]),
        ),
    ] = "default",
    split: Split = "validation",
    mode: Annotated[
        str | None,
        typer.Option(
            help="corrected or paper; if not given: the sweep's own.",
            autocompletion=one_of(*CHOICES["--mode"]),
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            help="Of FATE: vanilla, or own, the root of each chain.",
            autocompletion=one_of(*CHOICES["--reference"]),
        ),
    ] = "vanilla",
    published: Annotated[
        str,
        typer.Option(
            help="Published rows: match, all (also of other data), or none.",
            autocompletion=one_of(*CHOICES["--published"]),
        ),
    ] = "match",
    seeds: Annotated[
        str,
        typer.Option(
            help="selection, or fresh: those that confirmed the front's members.",
            autocompletion=one_of(*CHOICES["--seeds"]),
        ),
    ] = "selection",
    intervals: Annotated[
        str,
        typer.Option(
            help="patients (and seeds, with floors), or seeds alone.",
            autocompletion=one_of(*CHOICES["--intervals"]),
        ),
    ] = "patients",
    to: Annotated[Path | None, typer.Option(help="File to write; if not given: stdout.")] = None,
    json: Json = False,
) -> None:
    """Show a sweep in the layout of the paper's tables, the published rows beside it."""
    with exit_codes(json):
        from orchestrator.tables.tables import TableOptions, make_tables, render_tables

        options = TableOptions(
            format=format, style=style, split=split, mode=mode, reference=reference,
            published=published, seeds=seeds, intervals=intervals,
        )  # fmt: skip
        emit(make_tables(folder, options, to), json, render_tables)


@app.command()
def audit(
    table: Annotated[
        Path | None,
        typer.Argument(
            help="CSV of printed figures; if not given: the paper's own tables.",
            autocompletion=complete_table,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Recompute every FATE of a printed table and say which does not follow from its figures."""
    with exit_codes(json):
        from orchestrator.audit.audit import audit_table
        from orchestrator.audit.view import render_audit

        emit(audit_table(table), json, render_audit)


@app.command()
def trial(
    spec: Annotated[
        Path, typer.Argument(help="YAML with data, backbone, baseline, prune, n, seed.")
    ],
    store: Annotated[Path, typer.Option(help="Folder the node is put into.")] = Path("runs/trial"),
    device: Annotated[
        str, typer.Option(help="cpu or cuda.", autocompletion=one_of("cpu", "cuda"))
    ] = "cpu",
    profile: Annotated[
        Path | None,
        typer.Option(help="Trace to write (.json or .json.gz) for Chrome or Perfetto."),
    ] = None,
    json: Json = False,
) -> None:
    """Run one trial (and the trials it starts from) in this process, without Ray."""
    with exit_codes(json):
        from orchestrator.single import render_trial, run_single

        emit(run_single(spec, store, device, quiet=json, trace=profile), json, render_trial)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder of an exported model.")],
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet with a column of image paths.", autocompletion=complete_table
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="Where to write; if not given: TABLE.predictions.parquet.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder the paths start from; if not given: the table's.")
    ] = None,
    image: Annotated[str, typer.Option(help="Column of the paths.")] = "path",
    group: Annotated[
        str | None, typer.Option(help="Column of the group, for models that need it.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 64,
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, or auto: the GPU if any.",
            autocompletion=one_of("cpu", "cuda", "auto"),
        ),
    ] = "auto",
    json: Json = False,
) -> None:
    """Compute logits of an exported model for a table of images of one's own."""
    with exit_codes(json):
        from orchestrator.evaluation.predict import predict as predict_table
        from orchestrator.evaluation.predict import render_predict

        document = predict_table(
            model, table, output=to, root=root, image=image, group=group, batch_size=batch_size,
            device=device,
        )  # fmt: skip
        emit(document, json, render_predict)


@app.command()
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of sweeps run elsewhere.", metavar="DIR...", file_okay=False,
            autocompletion=complete_sweep,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the joined sweep.")],
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Leave node files behind.")
    ] = False,
    json: Json = False,
) -> None:
    """Join the records of sweeps that were run elsewhere."""
    with exit_codes(json):
        from orchestrator.merging.merge import merge_sweeps, render_merge

        emit(merge_sweeps(folders, out, weights=not no_weights), json, render_merge)


@app.command()
def server(
    folder: Annotated[
        Path, typer.Option(help="Folder of database, users and log.", file_okay=False)
    ] = Path("runs/server"),
    backend_store_uri: Annotated[
        str | None,
        typer.Option(
            help="sqlite:////PATH or postgresql://USER@HOST/DATABASE; if not given: SQLite in "
            "the folder."
        ),
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option(help="Folder, s3:// or gs://; if not given: in the folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
    auth: Annotated[
        bool, typer.Option("--auth", help="Ask for a password on loopback too.")
    ] = False,
    allowed_hosts: Annotated[
        str | None, typer.Option(help="Names it may be called by, separated by commas.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 2,
) -> None:
    """Start an MLflow server for several sweeps or people; Ctrl-C ends it."""
    with exit_codes():
        from orchestrator.tracking.server import ServerOptions, plan_server, serve

        options = ServerOptions(
            folder, backend_store_uri, artifacts, host, port, auth, allowed_hosts, workers
        )
        serve(
            plan_server(options), folder / "server.log",
            lambda line: stdout.print(line, markup=False, soft_wrap=True),
        )  # fmt: skip


@app.command()
def ui(
    folder: Dir,
    port: Annotated[
        int | None, typer.Option(help="Of MLflow; if not given: 5000, or the next free one.")
    ] = None,
    optuna: Annotated[
        bool, typer.Option("--optuna", help="Also Optuna's dashboard over the sweep's study.")
    ] = False,
    optuna_port: Annotated[
        int | None, typer.Option(help="Of the dashboard; if not given: 8080, or the next.")
    ] = None,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Say the addresses, open no browser.")
    ] = False,
) -> None:
    """Show a sweep in MLflow's pages, on this machine alone; Ctrl-C ends it."""
    with exit_codes():
        from orchestrator.tracking.ui import UiOptions, show

        options = UiOptions(folder, port, optuna, optuna_port, not no_open)
        show(options, lambda line: stdout.print(line, markup=False, soft_wrap=True))


@data_app.command()
def prepare(space: Data, overrides: Overrides = None, json: Json = False) -> None:
    """Decode all images of a search space's data once, into the array cache."""
    with exit_codes(json):
        from orchestrator.datasets.verbs import prepare_data, render_prepared

        emit(prepare_data(space, overrides or (), quiet=json), json, render_prepared)


@data_app.command()
def inspect(
    space: Data,
    overrides: Overrides = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another space or data set: which images and lesions are in both."),
    ] = None,
    json: Json = False,
) -> None:
    """Count classes x groups x splits, and warn of what would make a comparison worthless."""
    with exit_codes(json):
        from orchestrator.datasets.verbs import inspect_data, render_inspected

        document = inspect_data(space, overrides or (), quiet=json, against=against)
        emit(document, json, render_inspected)


@data_app.command()
def duplicates(
    space: Data,
    to: Annotated[Path, typer.Option(help="CSV to write, which data.duplicates reads.")],
    overrides: Overrides = None,
    max_distance: Annotated[
        int | None, typer.Option(help="Bits of 255 that may differ; if not given: 32.")
    ] = None,
    turned: Annotated[
        bool, typer.Option("--turned", help="Also mirrored and turned copies; slower.")
    ] = False,
    json: Json = False,
) -> None:
    """Find images that look alike (perceptual hash) and write them as groups."""
    with exit_codes(json):
        from orchestrator.datasets.duplicates import duplicates_data, render_duplicates

        document = duplicates_data(
            space, to, overrides or (), max_distance=max_distance, turned=turned, quiet=json
        )
        emit(document, json, render_duplicates)


@data_app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="isic2019, ham10000, fitzpatrick17k, pad_ufes_20.",
            autocompletion=one_of(*SOURCES),
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder; if not given: data/NAME as published.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Fetch at most so many images, to try it out.")
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Only say how, for a person with a browser.")
    ] = False,
    json: Json = False,
) -> None:
    """Fetch a published data set by the ISIC client, or say how to get it by hand."""
    with exit_codes(json):
        from orchestrator.datasets.fetch import fetch_data, render_fetched

        emit(fetch_data(name, to, limit=limit, steps_only=steps), json, render_fetched)


@data_app.command()
def synthesize(
    to: Annotated[
        Path, typer.Argument(help="Folder for JPEG files and metadata.csv.", metavar="PATH")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A dial of the generator: num_images=480."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the synthetic data set to disk as JPEG files and a CSV table."""
    with exit_codes(json):
        from orchestrator.datasets.verbs import render_synthesized, synthesize_data

        emit(synthesize_data(to, overrides or (), quiet=json), json, render_synthesized)


add_start_verbs(app)
add_job_verbs(app)
put_into_panels(app)
