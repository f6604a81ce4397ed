"""A program as TorchScript: its graph compiled as it stands, so that sizes that vary keep varying.

Tracing would bake in every size that the program computes: the arguments of aten operators are plain numbers to it.
"""

from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx.graph import CodeGen

from worker.engine.errors import Unconvertible
from worker.engine.torch_program.program import Program, quiet


def scripted(program: Program) -> torch.jit.ScriptModule:
    """The program, frozen: it takes tensors in the order of the contract.

    It returns a tensor where the contract has one output, else a tuple. Raises `Unconvertible`.
    """
    return compiled(positional(program, program.graph_module()))


def positional(program: Program, module: fx.GraphModule) -> fx.GraphModule:
    """`module`, a graph of the program, with the contract's tensors as arguments and results, however it nests them."""
    tensors = set(program.input_nodes(module).values())
    (result,) = module.graph.find_nodes(op="output")
    leaves: Any = result.args[0]
    outputs = [leaf for leaf in leaves if isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], torch.Tensor)]
    module.graph.set_codegen(CodeGen())
    result.args = (outputs[0] if len(outputs) == 1 else tuple(outputs),)
    for node in module.graph.find_nodes(op="placeholder"):
        if node not in tensors:  # a constant that the program was exported with
            module.graph.erase_node(node)
    return module


def compiled(module: fx.GraphModule) -> torch.jit.ScriptModule:
    """Compile a positional module and freeze it: weights become constants, batch norms are folded.

    Raises `Unconvertible`.
    """
    for node in module.graph.nodes:
        if isinstance(node.target, OpOverload):
            node.target = node.target.overloadpacket  # the compiler chooses the overload by the arguments' types
    module.recompile()
    try:
        with quiet():
            return torch.jit.freeze(torch.jit.script(module).eval())
    except Exception as error:  # the compiler raises whatever the graph leads to
        message = " ".join(str(error).split())
        raise Unconvertible(
            f"TorchScript does not take the program: {type(error).__name__}: {message[:1000]}"
        ) from error
