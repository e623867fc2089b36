"""The 80 categories of COCO 2017, in the order of the class indices of official weights."""

from paddlex_seg.structures import Category

# COCO uses the ids 1 to 90 without these.
_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple,
sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining
table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""

COCO_CATEGORIES = tuple(
    Category(id=number, name=" ".join(name.split()))
    for number, name in zip(
        (number for number in range(1, 91) if number not in _UNUSED_IDS), _NAMES.split(","), strict=True
    )
)
