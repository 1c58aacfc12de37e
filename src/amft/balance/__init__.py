"""How the weights of imitation and exploration move over time."""

from .amft import AMFT as AMFT
from .base import Balance as Balance
from .describe import describe as describe
from .fixed import Fixed as Fixed
from .meta_gradient import MetaGradient as MetaGradient
from .registry import build_balance as build_balance
from .requirements import Freeze as Freeze
from .requirements import Requirements as Requirements
from .scheduled import SwitchAt as SwitchAt
from .weights import Weights as Weights
