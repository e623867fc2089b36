"""The findings on a data set page, grouped by code. The first of each code are cards, the rest are lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from paddlex_seg.data.findings import KINDS, Finding, Kind, Severity
from paddlex_seg.reports.dataset_counts import Split
from paddlex_seg.reports.dataset_images import Key
from paddlex_seg.reports.images import Embedded
from paddlex_seg.reports.text import shorten
from paddlex_seg.structures import Id

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
_FINDINGS_BUDGET_BYTES = 3_000_000  # limit for the texts of all findings, to limit the size of the page
_CARD_BYTES, _LINE_BYTES = 120, 20  # size of the markup around a card and a line
_CARDS_PER_KIND, _LINES_PER_KIND = 12, 100


@dataclass(frozen=True)
class Group:
    """The findings of one code."""

    code: str
    findings: tuple[Finding, ...]
    total: int

    @property
    def severity(self) -> Severity:
        """All findings of one code have the same severity."""
        return KINDS[self.code].severity


@dataclass(frozen=True)
class Card:
    """A finding, with its image if it has one."""

    message: str
    hint: str  # empty if it is the hint of the kind, which the block shows
    where: str
    has_image: bool
    image: Embedded | None  # None if the image file cannot be read
    image_name: str


@dataclass(frozen=True)
class Block:
    """The part of the page about one code."""

    group: Group
    kind: Kind
    cards: list[Card]
    lines: list[tuple[str, str]]  # where, message
    unlisted: int

    @property
    def has_images(self) -> bool:
        """Whether any card has an image or its placeholder."""
        return any(card.has_image for card in self.cards)


def group_by_code(findings: Sequence[Finding], counts: Mapping[str, int]) -> list[Group]:
    """Groups sorted by severity (errors first), then by number. counts: the full number of each code."""
    by_code: dict[str, list[Finding]] = {code: [] for code, count in counts.items() if count}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    groups = [
        Group(code, tuple(group), max(counts.get(code, 0), len(group))) for code, group in by_code.items()
    ]
    return sorted(groups, key=lambda group: (SEVERITIES.index(group.severity), -group.total, group.code))


def with_images(groups: Sequence[Group]) -> list[tuple[Key, Finding]]:
    """The findings with an image id: the first of each group, then the second of each group, and so on."""
    return [
        ((group.code, i), group.findings[i])
        for i in range(_CARDS_PER_KIND)
        for group in groups
        if i < len(group.findings) and group.findings[i].image_id is not None
    ]


def make_blocks(
    groups: Sequence[Group], splits: Mapping[str, Split], images: Mapping[Key, Embedded | None]
) -> list[Block]:
    """A block for each group. Findings beyond the byte budget are only counted.

    images: the drawn images by code and number of the finding; None if the image file cannot be read.
    """
    budget, names = _Budget(_FINDINGS_BUDGET_BYTES), _file_names(groups, splits)
    return [_make_block(group, images, names, budget) for group in groups]


def _make_block(
    group: Group, images: Mapping[Key, Embedded | None], names: "_FileNames", budget: "_Budget"
) -> Block:
    kind = KINDS[group.code]
    cards = []
    for i, finding in enumerate(group.findings[:_CARDS_PER_KIND]):
        key = (group.code, i)
        card = Card(
            message=shorten(finding.message, 400),
            hint="" if finding.hint == kind.hint else shorten(finding.hint, 300),
            where=_where(finding, names),
            has_image=key in images,
            image=images.get(key),
            image_name=shorten(names.get((finding.file, finding.image_id), ""), 80),
        )
        if budget.take(_CARD_BYTES, card.message, card.hint, card.where):  # images have a separate budget
            cards.append(card)
    lines = []
    for finding in group.findings[_CARDS_PER_KIND:][:_LINES_PER_KIND]:
        line = (_where(finding, names), shorten(finding.message, 400))
        if budget.take(_LINE_BYTES, *line):
            lines.append(line)
    return Block(group, kind, cards, lines, group.total - len(cards) - len(lines))


_FileNames = Mapping[tuple[str, Id | None], str]  # by annotation file and image id


def _file_names(groups: Sequence[Group], splits: Mapping[str, Split]) -> _FileNames:
    """The file names of the images that the findings refer to."""
    named = {(found.file, found.image_id) for group in groups for found in group.findings}
    files = {split.shapes.coco.path.name: split.shapes.coco.images for split in splits.values()}
    return {
        (file, image.id): image.file_name
        for file, images in files.items()
        for image in images
        if (file, image.id) in named
    }


def _where(finding: Finding, names: _FileNames) -> str:
    parts = [shorten(finding.file, 80)]
    if finding.image_id is not None:
        name = names.get((finding.file, finding.image_id))
        parts.append(f"image {finding.image_id}" + (f" ({shorten(name, 80)})" if name else ""))
    if finding.annotation_id is not None:
        parts.append(f"annotation {finding.annotation_id}")
    return ", ".join(parts)


class _Budget:
    """Counts the bytes that may still be written."""

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes

    def take(self, markup_bytes: int, *texts: str) -> bool:
        """Whether the texts still fit into the budget, after HTML escaping. If so, they are counted."""
        size = markup_bytes + sum(len(escape(text).encode("utf-8", "replace")) for text in texts)
        if size > self._left:
            return False
        self._left -= size
        return True
