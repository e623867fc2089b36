"""What pyproject.toml cannot say: the folder configs/ becomes the package's own, so that a wheel has it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["paddlex_seg", "paddlex_seg.*"]), "paddlex_seg.configs"],
    package_dir={"paddlex_seg.configs": "configs"},
    package_data={"paddlex_seg.configs": ["**/*.yaml"]},
)
