"""The meta-gradient dU/dmu: two gradients, their mix, and the effect of mu on the parameters."""

from .grampair import GramPair as GramPair
from .jacobians import JACOBIANS as JACOBIANS
from .jacobians import Jacobian as Jacobian
from .jacobians import register_jacobian as register_jacobian
from .mixgrad import Mixed as Mixed
from .mixgrad import MixGrad as MixGrad
from .optimizer_step import OptimizerStep as OptimizerStep
