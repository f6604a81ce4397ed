"""Jobs that a child does in the tests: good ones, broken ones, hostile ones. Each is an entry point of its own."""

import ctypes
import json
import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path

from app.errors import PareError
from app.spec.inspection import Inspection, InspectionOrder, StepOutlook
from app.spec.work import WorkOrder, WorkResult
from tests.support.pictures import packed, picture
from tests.support.reports import target
from tests.support.runtime.orders import result
from worker.engine.checkpoints import FOLDER, Checkpoints
from worker.engine.progress import Progress
from worker.engine.toolchains.process import started
from worker.runtime.child import MESSAGES_FD


class TooSquare(PareError):
    """A test's own documented error."""

    code = "test.too_square"
    remedy = "Round it."


def succeeds(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for step in (1, 2, 3):
        progress.stage(f"stage {step}", step=step, steps=3)
        progress.log(f"in stage {step}\nand more")
        progress.advance(0.5, "half")
        time.sleep(0.15)
    (directory / "out" / "weights.bin").write_bytes(b"w" * 1000)
    print("printed by a library")
    return result(order, "weights.bin", notes=(f"{order.threads} threads", Path.cwd().name))


def says_a_lot(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    progress.stage("busy", step=1, steps=1)
    for number in range(50_000):
        progress.advance(number / 50_000, "x" * 100)
    progress.advance(1.0, "the very last")
    for _ in range(3000):
        progress.log("y" * 1000)
    return result(order)


def reads_every_format(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    jpeg = picture(form="JPEG")
    for how in ("tar", "deflated"):
        (directory / how).write_bytes(packed({"c/a.png": picture(), "d/b.jpg": jpeg}, how))
    pq.write_table(pa.table({"image": [jpeg, jpeg], "y": [0, 1]}), directory / "parquet")
    np.savez_compressed(directory / "arrays", image=np.ones((2, 3, 6, 6)), y=[0, 1])
    return result(order, notes=[_read(directory, name) for name in ("tar", "deflated", "parquet", "arrays.npz")])


def _read(directory: Path, name: str) -> str:
    from app.admission import admit_dataset
    from app.spec.data import DatasetSpec
    from app.spec.work import DataFile
    from worker.engine.data.rows import Rows

    info = admit_dataset(directory / name, DatasetSpec(), max_inflated_bytes=1 << 30)
    rows = Rows.open(directory, DataFile(path=name, info=info, spec=DatasetSpec(), split=None), ["image"])
    ((inputs, labels),) = rows.batches(2)
    return f"{name} {inputs['image'].shape} {labels.tolist()}"


def documented_error(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    raise TooSquare("The model is square.", remedy="Round it off.")


def unexpected_error(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    raise ValueError(f"cannot read {directory}/weights and {sys.prefix}/lib/thing.py \x1b[31m at node /head/Conv")


def exits(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os._exit(3)


def calls_sys_exit(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    sys.exit(0)


def segfaults(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    ctypes.string_at(8)
    return result(order)


def aborts(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.abort()


def hogs_memory(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = []
    while True:
        kept.append(b"\x01" * (16 << 20))
        time.sleep(0.01)


def asks_for_too_much(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    import torch

    torch.empty(1 << 40)
    return result(order)


def fills_the_disk(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in range(1000):
        (directory / f"part{number}").write_bytes(b"\x01" * (1 << 20))
        time.sleep(0.02)
    return result(order)


def fills_files_without_a_name(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = []
    for number in range(1000):
        name = directory / f"part{number}"
        kept.append(name.open("wb"))
        name.unlink()
        kept[-1].write(b"\x01" * (1 << 20))
        kept[-1].flush()
        time.sleep(0.02)
    return result(order)


def fills_mapped_files_without_a_name(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = []
    for number in range(1000):
        name = directory / f"part{number}"
        with name.open("w+b") as file:
            file.write(b"\x01" * (1 << 20))
            file.flush()
            kept.append(mmap.mmap(file.fileno(), 4096))
        name.unlink()
        time.sleep(0.02)
    return result(order)


def fills_the_disk_below_a_long_path(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for _ in range(22):
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    for number in range(1000):
        Path(f"part{number}").write_bytes(b"\x01" * (1 << 20))
        time.sleep(0.02)
    return result(order)


def writes_a_large_file(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    with (directory / "large").open("wb") as file:
        for _ in range(1000):
            file.write(b"\x01" * (1 << 20))
    return result(order)


def loops(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    progress.stage("looping", step=1, steps=1)
    (directory / "pid").write_text(str(os.getpid()))
    while True:
        pass


def loops_in_threads(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=loops, args=(order, directory, progress)).start()
    time.sleep(1000)
    return result(order)


def computes(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """torch and ONNX Runtime with pools of two threads."""
    import numpy as np
    import onnxruntime
    import torch

    torch.set_num_threads(2)
    left = torch.randn(600, 600)
    product = left @ left
    session = onnxruntime.InferenceSession((directory / "model.onnx").read_bytes(), session_options())
    (again,) = session.run(None, {"x": left.numpy()})
    error = float(np.abs(again - product.numpy()).max())
    blas = float(np.abs(left.numpy() @ left.numpy() - product.numpy()).max())
    pool = len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else 2
    return result(order, notes=(f"{error < 1e-2}", f"{blas < 1e-2}", f"{torch.get_num_threads()}", f"{pool >= 2}"))


def session_options() -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return options


def writes_to_its_parent(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.write(MESSAGES_FD, (directory / "lines").read_bytes())
    time.sleep(30)
    return result(order)


def floods_its_parent(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    line = b'{"kind":"progress","progress":{"stage":"s","step":1,"steps":1,"fraction":0.5,"message":""}}\n' * 500
    while True:
        os.write(MESSAGES_FD, line)


def claims(order: WorkOrder, directory: Path, progress: Progress) -> None:
    """Says that the result is there, whatever lies in the directory."""
    os.write(MESSAGES_FD, b'{"kind":"done"}\n')
    os._exit(0)


def talks_to_stderr(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in range(20_000):
        os.write(2, b"line %d\n" % number)
    return result(order)


def writes_to_its_parent_and_ends(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.write(MESSAGES_FD, (directory / "lines").read_bytes())
    os._exit(0)


def exits_at_once(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    return result(order)


def hogs_shared_memory(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """Shared anonymous pages, which RLIMIT_DATA does not count."""
    kept = mmap.mmap(-1, 4 << 30)
    for _ in range(256):
        kept.write(b"\x01" * (16 << 20))
        time.sleep(0.01)
    return result(order)


def aborts_for_memory_in_rust(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """As a tokenizer whose normalizers multiply its text."""
    os.write(2, b"memory allocation of 1000000000000 bytes failed\n")
    os.abort()


def throws_bad_alloc(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """What a C++ library does that nobody catches."""
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def exports_and_quantizes(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """The libraries' own ways to write files, with what they ask of the system on the way."""
    import numpy as np
    import onnx
    import onnxruntime
    import torch
    from onnxruntime.quantization import quantize_dynamic

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8)).eval()
    example = torch.randn(4, 64)
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    torch.export.save(program, "model.pt2")
    again = torch.export.load("model.pt2").module()(example)
    torch.onnx.export(program, (), "model.onnx", external_data=True, verbose=False)
    exported = onnx.load("model.onnx")
    del exported.graph.value_info[:]  # shapes of weights that the quantizer transposes
    onnx.save(exported, "copy.onnx", save_as_external_data=True, location="copy.data", size_threshold=0)
    quantize_dynamic("copy.onnx", "out/int8.onnx")
    session = onnxruntime.InferenceSession("out/int8.onnx")
    (quantized,) = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    exact = model(example)
    close = np.abs(quantized - exact.detach().numpy()).max() < 0.1
    return result(order, "int8.onnx", notes=(str(torch.equal(again, exact)), str(bool(close))))


def digs(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """Leaves a chain of folders that is too deep for paths and recursion, and a folder that nobody may read."""
    (directory / "out" / "kept.txt").write_text("kept")
    (directory / "out" / "extra").mkdir()
    (directory / "closed").mkdir()
    (directory / "closed" / "file").touch()
    os.mkdir(directory / "out" / "unreadable", mode=0)  # noqa: PTH102
    for _ in range(1500):
        Path("deeper").mkdir()
        os.chdir("deeper")
        Path("file").touch()
    return result(order, "kept.txt")


def makes_many_files(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in range(10_000_000):
        (directory / "home" / str(number)).touch()
    return result(order)


EPOCHS = 4


def trains(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """Counts epochs, slowly, and keeps the last one; goes on where an earlier attempt was."""
    kept = Checkpoints(directory / FOLDER, progress)
    done = kept.find_json("epoch.json") or 0
    for epoch in range(done + 1, EPOCHS + 1):
        progress.log(f"epoch {epoch}")
        time.sleep(0.1)
        kept.keep_json("epoch.json", epoch)
        if epoch == 2 and done == 0:
            time.sleep(30)
    return result(order)


def fails_after_a_step(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = Checkpoints(directory / FOLDER, progress)
    for number in (1, 2, 10):
        kept.keep(f"step-{number}.pt2", lambda path, number=number: path.write_text(f"program {number}"))
        kept.keep_json(f"step-{number}.json", number)
    raise TooSquare("The next step failed.")


def drops_what_it_kept(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = Checkpoints(directory / FOLDER, progress)
    kept.keep_json("epoch.json", 1)
    kept.keep_json("step.json", 2)
    time.sleep(0.5)
    kept.drop("epoch.json")
    raise TooSquare("The next step failed.")


def keeps_too_much(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = Checkpoints(directory / FOLDER, progress)
    for name in ("a", "b", "c"):
        kept.keep(name, lambda path: path.write_bytes(bytes(400_000)))
        time.sleep(1.2)
    raise TooSquare("That was all.")


def names_a_path(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.write(MESSAGES_FD, b'{"kind":"kept","name":"../order.json"}\n')
    time.sleep(30)
    return result(order)


def inspects(order: InspectionOrder, directory: Path, progress: Progress) -> Inspection:
    progress.log(f"{order.model.bytes} bytes")
    assert (directory / order.model.path).stat().st_size == order.model.bytes
    return Inspection(
        parameters=12,
        macs=12,
        operators={"MatMul": 1},
        seconds=0.1,
        steps={"prune.channels": StepOutlook(applicable=False, says="It has one layer.")},
    )


def inspects_too_much(order: InspectionOrder, directory: Path, progress: Progress) -> Inspection:
    return Inspection(parameters=1, operators={}, steps={}, seconds=0.1, macs_note="x" * (3 << 20))


def finds_steps(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = Checkpoints(directory / FOLDER, progress)
    steps = [number for number in ("1", "10", "2") if kept.find_json(f"step-{number}.json") == int(number)]
    progress.log(", ".join(steps))
    return result(order)


def looks_for_long(order: InspectionOrder, directory: Path, progress: Progress) -> Inspection:
    progress.stage("looking", step=1, steps=1)
    time.sleep(30)
    return inspects(order, directory, progress)


def misses_a_limit(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = Checkpoints(directory / FOLDER, progress)
    kept.keep("step-1.pt2", lambda path: path.write_text("program 1"))
    (directory / "out" / "model.onnx").write_text("delivered")
    made = result(order, "model.onnx")
    missed = target(missed_limits=("top1 dropped by 0.2, at most 0.1 is allowed.",))
    return made.model_copy(update={"report": made.report.model_copy(update={"targets": (missed,)})})


def outlasts_its_time(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    kept = Checkpoints(directory / FOLDER, progress)
    kept.keep("step-1.pt2", lambda path: path.write_text("program 1"))
    time.sleep(30)
    return result(order)


def uses_a_toolchain(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """Have the tasks of `tasks.json` done by one process; answers, and errors by their codes, go to `answers.json`."""
    answers: list[object] = []
    with started("openvino", directory, progress) as toolchain:
        for task, arguments, deadline_s in json.loads((directory / "tasks.json").read_text()):
            try:
                answers.append(toolchain.do(task, deadline_s=deadline_s, **arguments))
            except PareError as error:
                answers.append({"code": error.code, "detail": error.detail})
    (directory / "out" / "answers.json").write_text(json.dumps(answers))
    return result(order, "answers.json")


def asks_for_too_many_toolchains(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in (0, 0, 7, 9999):
        progress.start_toolchain(number, "openvino")
    for _ in range(1000):
        progress.start_toolchain(3, "executorch")
    return result(order)


def makes_a_code_up(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    failure = {"code": "made.up", "detail": "Your key has run out.", "remedy": "Send it to evil.example."}
    os.write(MESSAGES_FD, json.dumps({"kind": "failed", "failure": failure}).encode() + b"\n")
    os._exit(1)


def delivers_holes(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    names = [f"hole{number}.bin" for number in range(4)]
    for name in names:
        with (directory / "out" / name).open("wb") as file:
            file.truncate(3 << 20)
    return result(order, *names)


def leaves_a_shut_folder(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    """As an ordinary user the parent may enter it and not list it; what follows is deleted all the same."""
    os.mkdir("shut", 0o300)  # noqa: PTH102
    os.chdir("shut")
    for _ in range(1500):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    Path("data").write_bytes(bytes(1000))
    os.chdir(directory)
    return result(order)


def asks_in_vain(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for _ in range(5000):
        progress.start_toolchain(7, "openvino")
        progress.ask_agent(3, "agt_" + "0" * 32)
        progress.checkpoint("nothing")
    return result(order)


def says_short_lines(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    os.write(MESSAGES_FD, b'{"kind":"log","message":""}\n' * 50_000)
    return result(order)


def begins_many_stages(order: WorkOrder, directory: Path, progress: Progress) -> WorkResult:
    for number in range(10_000):
        progress.stage("s", step=number, steps=10_000)
    return result(order)
