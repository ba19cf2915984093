"""What each kind of stage costs, from a probe of the very kernels that it runs; see `latticediff.stages.estimate`."""

from .classical import few_fields, generate_cost, probe_hmc, search_cost
from .contract import Cost
from .page import report_costs
from .sampling import beside_costs, sample_cost
from .training import finetune_cost, law_cost, train_cost

__all__ = [
    "Cost",
    "beside_costs",
    "few_fields",
    "finetune_cost",
    "generate_cost",
    "law_cost",
    "probe_hmc",
    "report_costs",
    "sample_cost",
    "search_cost",
    "train_cost",
]
