"""A node that puts a value of the test on a graph's wire."""

from typing import Any

from comfy_api.latest import io


def giving_node(value: Any) -> type[io.ComfyNode]:
    """A node class whose only output is the value."""

    class TestGive(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema("TestGive", inputs=[], outputs=[io.AnyType.Output()])

        @classmethod
        def execute(cls) -> io.NodeOutput:
            return io.NodeOutput(value)

    return TestGive
