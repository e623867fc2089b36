"""A training image and its objects with a pending map. Geometric changes are collected and applied once.

Each geometry method of ``Sample`` returns a new sample with a changed map. The map goes from the original
image (source frame) to the augmented image (current frame). ``render`` then draws image and masks from the
source in one step, so that they stay aligned and each pixel is interpolated only once.

Coordinates are continuous: pixel i covers [i, i + 1), its centre is i + 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from paddlex_seg.masks.rle import polygons_to_rle, rle_box_xywh, rle_to_mask
from paddlex_seg.structures import Polygons, Rle

Segment = Polygons | Rle  # an RLE can have holes, polygons cannot

CUT_TOLERANCE = 1e-3  # source pixels; smaller differences are rounding errors, not a cut object
MOST_WARPED = 32_766  # longest side of an image that cv2.warpAffine takes in all versions of OpenCV
KERNEL_REACH = 8  # source pixels; at least half the width of every interpolation kernel
EDGE_TOLERANCE = 1e-6  # current pixels; avoids a gap between adjacent images due to rounding errors


class RenderedObjects(NamedTuple):
    """Objects of the current frame, [H, W]. n may be 0."""

    boxes_xyxy: NDArray[np.float32]  # [n, 4]
    class_ids: NDArray[np.int64]  # [n]
    masks: NDArray[np.uint8]  # [n, H, W], 0 or 1, none of them empty
    polygons: tuple[Polygons | None, ...]  # n of them, None where only the mask is exact


class RenderedSample(NamedTuple):
    """Pixels and objects of the current frame, [H, W]. n may be 0."""

    image: NDArray[np.uint8]  # [H, W, 3] RGB
    boxes_xyxy: NDArray[np.float32]  # [n, 4]
    class_ids: NDArray[np.int64]  # [n]
    masks: NDArray[np.uint8]  # [n, H, W], 0 or 1, none of them empty
    polygons: tuple[Polygons | None, ...]  # n of them, None where only the mask is exact


class Window(NamedTuple):
    """The pixels of the current frame that show the image. Pixels around it have the fill colour."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width; 0 where nothing is visible."""
        return self.bottom - self.top, self.right - self.left

    def halves(self, *, upright: bool) -> tuple[Window, Window]:
        """The upper and the lower half (``upright``), or the left and the right half."""
        if upright:
            middle = (self.top + self.bottom) // 2
            return self._replace(bottom=middle), self._replace(top=middle)
        middle = (self.left + self.right) // 2
        return self._replace(right=middle), self._replace(left=middle)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an array [H, W, ...]."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its objects with the map ``current = source * scale_xy + shift_xy``.

    A negative scale flips the image.
    """

    image: NDArray[np.uint8]  # [h, w, 3] RGB, source frame
    segments: tuple[Segment, ...]  # source frame; an RLE has the size of the image
    class_ids: NDArray[np.int64]  # [n]
    object_boxes_xyxy: NDArray[np.float64]  # [n, 4], the whole objects, source frame
    size_hw: tuple[int, int]  # current frame
    scale_xy: NDArray[np.float64]
    shift_xy: NDArray[np.float64]
    visible_xyxy: NDArray[np.float64]  # the part of the image that is left after crops, source frame
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)  # RGB 0..255
    interpolation: int = cv2.INTER_CUBIC

    @classmethod
    def from_source(
        cls, image: NDArray[np.uint8], segments: Sequence[Segment], class_ids: Sequence[int]
    ) -> Sample:
        """The sample before any geometric change. Each polygon needs at least three corners."""
        height, width = image.shape[:2]
        return cls(
            image=image,
            segments=tuple(segments),
            class_ids=np.array(class_ids, np.int64),
            object_boxes_xyxy=np.array([_segment_box(s) for s in segments], np.float64).reshape(-1, 4),
            size_hw=(height, width),
            scale_xy=np.ones(2),
            shift_xy=np.zeros(2),
            visible_xyxy=np.array([0.0, 0.0, width, height]),
        )

    @property
    def boxes_xyxy(self) -> NDArray[np.float64]:
        """Boxes [n, 4] of the objects in the current frame, clipped to the visible part of the image."""
        return self._boxes_to_current(_clip_boxes(self.object_boxes_xyxy, self.visible_xyxy))

    @property
    def visible_shares(self) -> NDArray[np.float64]:
        """The fraction of each object's box that is left after crops, [n], 0 to 1. No box may be empty."""
        visible = _areas(_clip_boxes(self.object_boxes_xyxy, self.visible_xyxy))
        return visible / _areas(self.object_boxes_xyxy)

    def hflip(self) -> Sample:
        """Flip horizontally."""
        mirror = np.array([-1.0, 1.0])
        shift = self.shift_xy * mirror + [self.size_hw[1], 0.0]
        return replace(self, scale_xy=self.scale_xy * mirror, shift_xy=shift)

    def resize(self, size_hw: tuple[int, int], interpolation: int = cv2.INTER_CUBIC) -> Sample:
        """Stretch the frame to ``size_hw``. ``interpolation`` is an OpenCV flag; the last resize sets it.

        ``INTER_AREA`` acts as ``INTER_LINEAR``: OpenCV has no area interpolation for a general map.
        """
        factor = np.array([size_hw[1] / self.size_hw[1], size_hw[0] / self.size_hw[0]])
        return replace(
            self,
            size_hw=size_hw,
            scale_xy=self.scale_xy * factor,
            shift_xy=self.shift_xy * factor,
            interpolation=interpolation,
        )

    def crop(self, x: int, y: int, width: int, height: int) -> Sample:
        """Keep a window of the frame, and the objects whose boxes overlap it."""
        window = np.array([[x, y], [x + width, y + height]], np.float64)
        source_window = np.sort((window - self.shift_xy) / self.scale_xy, axis=0).reshape(4)
        visible = _clip_boxes(source_window[None], self.visible_xyxy)[0]
        cropped = replace(
            self, size_hw=(height, width), shift_xy=self.shift_xy - [x, y], visible_xyxy=visible
        )
        return cropped.select(_areas(_clip_boxes(self.object_boxes_xyxy, visible)) > 0)

    def pad(
        self, left: int, top: int, right: int, bottom: int, fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> Sample:
        """Add borders of the colour ``fill`` (RGB 0..255). Earlier borders get this colour, too."""
        height, width = self.size_hw
        return replace(
            self,
            size_hw=(height + top + bottom, width + left + right),
            shift_xy=self.shift_xy + [left, top],
            fill=fill,
        )

    def select(self, keep: NDArray[np.bool_]) -> Sample:
        """Keep the objects where ``keep`` [n] is true."""
        return replace(
            self,
            segments=tuple(segment for segment, kept in zip(self.segments, keep, strict=True) if kept),
            class_ids=self.class_ids[keep],
            object_boxes_xyxy=self.object_boxes_xyxy[keep],
        )

    def render(self) -> RenderedSample:
        """Draw image and masks, see ``render_objects``."""
        canvas = self.blank_image()
        self.draw_image(canvas)
        return RenderedSample(canvas, *self.render_objects())

    def render_objects(self) -> RenderedObjects:
        """The objects that have at least one pixel.

        If a crop or the image border cuts an object, its box is the tight box of its mask, and its polygons
        are None. All other boxes and polygons are mapped exactly from the annotated polygons or RLEs.
        """
        masks = self._render_masks()
        kept = np.array([mask.any() for mask in masks], bool)
        masks, shown = masks[kept], self.select(kept)
        boxes, is_cut = shown.boxes_xyxy, shown._is_cut()
        for index in np.flatnonzero(is_cut):
            boxes[index] = mask_box(masks[index])
        polygons = tuple(
            None if cut or isinstance(segment, dict) else self._polygons_to_current(segment)
            for cut, segment in zip(is_cut, shown.segments, strict=True)
        )
        return RenderedObjects(boxes.astype(np.float32), shown.class_ids, masks, polygons)

    def blank_image(self) -> NDArray[np.uint8]:
        """An image [H, W, 3] of the current frame, filled with the fill colour."""
        canvas = np.empty((*self.size_hw, 3), np.uint8)
        canvas[:] = np.rint(self.fill).astype(np.uint8)
        return canvas

    def draw_image(self, canvas: NDArray[np.uint8]) -> None:
        """Draw the visible part of the image into ``canvas`` [H, W, 3]. Other pixels stay unchanged."""
        window = self._window()
        if min(window.size_hw) == 0:
            return
        self._draw_window(canvas, window)

    def _draw_window(self, canvas: NDArray[np.uint8], window: Window) -> None:
        """Draw one window. It is halved while it shows a part of the image that OpenCV cannot take."""
        left, top, right, bottom = self._source_part(window).tolist()
        if max(right - left, bottom - top) > MOST_WARPED:
            for half in window.halves(upright=bottom - top > right - left):
                self._draw_window(canvas, half)
            return
        # OpenCV has coordinate 0 at the centre of pixel 0, so 0.5 is added and subtracted.
        origin = (np.array([window.left, window.top]) + 0.5 - self.shift_xy) / self.scale_xy - 0.5
        to_source = np.column_stack([np.diag(1 / self.scale_xy), origin - [left, top]])
        canvas[window.slices] = cv2.warpAffine(
            self.image[top:bottom, left:right],
            to_source,
            dsize=window.size_hw[::-1],
            flags=self.interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,  # like cv2.resize, so no fill colour is mixed into the image
        )

    def _source_part(self, window: Window) -> NDArray[np.int64]:
        """The part of the image, xyxy, that a window is interpolated from; all of it if it is small."""
        size_xy = np.array(self.image.shape[1::-1])
        if max(size_xy) <= MOST_WARPED:
            return np.concatenate([[0, 0], size_xy])
        centres = np.array([[window.left, window.top], [window.right - 1, window.bottom - 1]]) + 0.5
        seen = np.sort((centres - self.shift_xy) / self.scale_xy, axis=0)
        low, high = np.floor(seen[0]) - KERNEL_REACH, np.ceil(seen[1]) + KERNEL_REACH
        return np.concatenate([np.maximum(low, 0), np.minimum(high, size_xy)]).astype(np.int64)

    def _render_masks(self) -> NDArray[np.uint8]:
        masks = np.zeros((len(self.segments), *self.size_hw), np.uint8)
        window = self._window()
        if min(window.size_hw) == 0:
            return masks
        for mask, segment in zip(masks, self.segments, strict=True):
            if isinstance(segment, dict):
                mask[window.slices] = self._render_rle(segment, window)
            else:
                mask[window.slices] = self._render_polygons(segment, window)
        return masks

    def _render_polygons(self, polygons: Polygons, window: Window) -> NDArray[np.uint8]:
        origin = [window.left, window.top]
        corners = [(part - origin).ravel() for part in self._polygons_to_current(polygons)]
        return rle_to_mask(polygons_to_rle(corners, window.size_hw))

    def _render_rle(self, rle: Rle, window: Window) -> NDArray[np.uint8]:
        """Nearest-neighbour sampling by index. It is exact, because the map has no rotation."""
        columns = self._source_index(np.arange(window.left, window.right), axis=0)
        rows = self._source_index(np.arange(window.top, window.bottom), axis=1)
        return rle_to_mask(rle)[rows][:, columns]

    def _source_index(self, pixels: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
        source = (pixels + 0.5 - self.shift_xy[axis]) / self.scale_xy[axis]
        return np.clip(np.floor(source).astype(np.int64), 0, self.image.shape[1 - axis] - 1)

    def _window(self) -> Window:
        """The pixels whose centres are in the visible part of the image."""
        limit = [self.size_hw[1], self.size_hw[0]] * 2
        edges = np.ceil(self._boxes_to_current(self.visible_xyxy[None])[0] - 0.5 - EDGE_TOLERANCE)
        left, top, right, bottom = (int(edge) for edge in np.clip(edges, 0, limit))
        return Window(left, top, right, bottom)

    def _is_cut(self) -> NDArray[np.bool_]:
        visible_boxes = _clip_boxes(self.object_boxes_xyxy, self.visible_xyxy)
        return np.abs(visible_boxes - self.object_boxes_xyxy).max(axis=1) > CUT_TOLERANCE

    def _polygons_to_current(self, polygons: Polygons) -> Polygons:
        return tuple(part * self.scale_xy + self.shift_xy for part in polygons)

    def _boxes_to_current(self, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
        corners = boxes_xyxy.reshape(-1, 2, 2) * self.scale_xy + self.shift_xy
        return np.sort(corners, axis=1).reshape(-1, 4)  # a mirrored box has its corners swapped


def _segment_box(segment: Segment) -> NDArray[np.float64]:
    if isinstance(segment, dict):
        x, y, width, height = rle_box_xywh(segment)
        return np.array([x, y, x + width, y + height])
    corners = np.concatenate(segment)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def _clip_boxes(boxes_xyxy: NDArray[np.float64], limits_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersections [n, 4] with one box. Without overlap, the result has area 0 at the border of that box."""
    return np.clip(boxes_xyxy, np.tile(limits_xyxy[:2], 2), np.tile(limits_xyxy[2:], 2))


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)


def mask_box(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The tight box [4], xyxy, of a mask [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
