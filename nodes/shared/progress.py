"""Progress of what happens while a sampler runs, shown on the node that asked for it."""

from collections.abc import Callable


def reporter(node_class) -> Callable[[str], None]:
    """Shows lines of text on the node in the browser of whoever queued the run."""
    node_id = node_class.hidden.unique_id if node_class.hidden else None

    def report(text: str) -> None:
        from server import PromptServer

        instance = getattr(PromptServer, "instance", None)
        if instance is not None and node_id is not None:
            instance.send_progress_text(text, node_id, instance.client_id)

    return report
