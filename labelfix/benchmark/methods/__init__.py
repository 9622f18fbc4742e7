"""The eleven methods of the paper's tables, by name, in the order of its first table.

Each is one module with a frozen ``Settings`` and a subclass of `Method`. The module's docstring has the equation
and the source of the defaults.
"""

from labelfix.benchmark.methods.base import Batch, Method, Task
from labelfix.benchmark.methods.bootstrap import Bootstrap
from labelfix.benchmark.methods.co_teaching import CoTeaching
from labelfix.benchmark.methods.cross_entropy import CrossEntropy
from labelfix.benchmark.methods.forward import Forward
from labelfix.benchmark.methods.generalized_ce import GeneralizedCE
from labelfix.benchmark.methods.joint_optimization import JointOptimization
from labelfix.benchmark.methods.meta_weight_net import MetaWeightNet
from labelfix.benchmark.methods.mlnt import MLNT
from labelfix.benchmark.methods.mslg import MSLG
from labelfix.benchmark.methods.pencil import Pencil
from labelfix.benchmark.methods.symmetric_ce import SymmetricCE

__all__ = ["METHODS", "Batch", "Method", "Task"]

METHODS: dict[str, type[Method]] = {
    "cross_entropy": CrossEntropy,
    "symmetric_ce": SymmetricCE,
    "generalized_ce": GeneralizedCE,
    "bootstrap": Bootstrap,
    "co_teaching": CoTeaching,
    "forward": Forward,
    "joint_optimization": JointOptimization,
    "pencil": Pencil,
    "mlnt": MLNT,
    "meta_weight_net": MetaWeightNet,
    "mslg": MSLG,
}
