"""Every operator with its rule, and with the rewriting of sizes where its calls have them."""

from worker.engine.pruning.channels.rules import (
    axes,
    elementwise,
    factories,
    norms,
    products,
    recurrent,
    reductions,
    views,
    windows,
)
from worker.engine.pruning.channels.rules.base import Rewrite, Rule

RULES: dict[str, Rule] = {
    **axes.RULES,
    **elementwise.RULES,
    **factories.RULES,
    **norms.RULES,
    **products.RULES,
    **recurrent.RULES,
    **reductions.RULES,
    **views.RULES,
    **windows.RULES,
}
REWRITES: dict[str, Rewrite] = {
    **axes.REWRITES,
    **factories.REWRITES,
    **norms.REWRITES,
    **products.REWRITES,
    **reductions.REWRITES,
    **views.REWRITES,
}
