"""Steps of the user's own, called in processes that can be ended: ``call_step`` is what others call.

From the driver to the function: ``step`` -> ``on_workers`` (a Dask worker's thread) -> ``warm`` -> ``server`` (forks) ->
``guard`` (one for each step, ends it) -> ``body`` (the step's own process) -> ``values`` (its inputs and output).
"""

from mlflow_core.workflow.calling.call import Called, StepCall, Stored
from mlflow_core.workflow.calling.step import call_of, call_step
from mlflow_core.workflow.calling.warm import ForkServer

__all__ = ["Called", "ForkServer", "StepCall", "Stored", "call_of", "call_step"]
