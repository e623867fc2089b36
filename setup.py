"""What pyproject.toml cannot say: configs/ becomes the package's own folder, and which data a wheel has."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["paddlex_seg", "paddlex_seg.*"]), "paddlex_seg.configs"],
    package_dir={"paddlex_seg.configs": "configs"},
    package_data={
        "paddlex_seg": ["py.typed"],
        "paddlex_seg.configs": ["**/*.yaml"],
        "paddlex_seg.inference": ["stored/*"],
        "paddlex_seg.reports": ["templates/*.jinja", "static/*"],
        "paddlex_seg.serving": ["static/*"],
    },
)
