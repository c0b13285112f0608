"""What the nodes of subjects share."""

from ...subjects.subject import Subject

CATEGORY = "semantic binding/subjects"
ALIASES = ["fastcomposer", "reference image", "subject driven", "multiple subjects", "identity", "face", "ip adapter"]


def pictures_of(subject: Subject) -> str:
    count = len(subject.pictures)
    if count == 1:
        return "1 picture"
    return f"the mean of {count} pictures" if subject.reference == 0 else f"picture {subject.reference} of {count}"
