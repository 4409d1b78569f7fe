"""Functions without data, of known shape: what an optimizer does on them can be told apart from what data do."""

from optadvisor.studies.tasks.landscapes import deep_linear, drifting, quadratic, ravine, rosenbrock, saddle

FAMILIES = (
    *quadratic.FAMILIES,
    *ravine.FAMILIES,
    *saddle.FAMILIES,
    *rosenbrock.FAMILIES,
    *drifting.FAMILIES,
    *deep_linear.FAMILIES,
)
