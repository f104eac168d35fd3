import pytest

from codesign import DesignPoint, uniform
from codesign.design import LayerFormats
from codesign.errors import ConfigError


def test_a_point_survives_json_and_does_not_depend_on_the_order_of_its_parts():
    point = DesignPoint.of(
        channels={"b": 3, "a": 5}, formats={"b": uniform("e4m3"), "a": uniform("bf16")}, default=uniform("fp32")
    )
    other = DesignPoint.of(
        channels={"a": 5, "b": 3}, formats={"a": uniform("bf16"), "b": uniform("e4m3")}, default=uniform("fp32")
    )
    assert point == other
    assert hash(point) == hash(other)
    assert DesignPoint.from_json(point.to_json()) == point
    assert point.formats_of("b") == uniform("e4m3")
    assert point.formats_of("c") == uniform("fp32")


def test_an_unknown_role_names_the_nearest_one():
    with pytest.raises(ConfigError, match="unknown role 'wieght'; did you mean 'weight'"):
        LayerFormats.parse({"wieght": "e4m3"})


def test_a_role_left_out_is_named():
    with pytest.raises(ConfigError, match="role 'activation' has no format"):
        LayerFormats.parse({"weight": "e4m3", "error": "e4m3", "gradient": "e4m3"})
