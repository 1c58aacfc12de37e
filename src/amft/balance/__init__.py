"""How the weights of imitation and exploration move over time."""

from .amft import AMFT as AMFT
from .base import Balance as Balance
from .base import Signals as Signals
from .base import Weights as Weights
from .fixed import Fixed as Fixed
from .registry import build_balance as build_balance
from .registry import describe as describe
from .scheduled import SwitchAt as SwitchAt
