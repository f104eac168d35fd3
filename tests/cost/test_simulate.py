import numpy as np

from codesign import DesignPoint, load_accelerator, simulate, uniform
from codesign.cost import option_table
from codesign.workload import builtin_workload


def test_the_options_of_a_point_add_up_to_its_latency():
    workload, accelerator = builtin_workload("vgg16-cifar", batch=8), load_accelerator("edge")
    levels = {"features.0": (64, 48), "features.3": (64, 32)}
    formats = (uniform("bf16"), uniform("e4m3"))
    table = option_table(workload, accelerator, levels=levels, formats=formats)
    point = DesignPoint.of(
        channels={"features.0": 48, "features.3": 32}, formats={"features.3": formats[1]}, default=formats[0]
    )
    total = 0.0
    for name, layer in workload.weight_layers.items():
        i = 1 if layer.in_group in levels else 0
        o = 1 if layer.out_group in levels else 0
        total += table.seconds[name][i, o, 1 if name == "features.3" else 0].sum()
    assert np.isclose(total, simulate(workload, point, accelerator).latency_s, rtol=1e-12)
