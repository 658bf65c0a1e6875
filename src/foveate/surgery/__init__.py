"""Insert mechanisms into any host network, and take them out again."""

from foveate.surgery.blend import Blend, Blended, blended
from foveate.surgery.blocks import default_sites
from foveate.surgery.built_in import blend_in
from foveate.surgery.hook import Inserted, inserted
from foveate.surgery.insert import insert, load_host, rehearse, remove
from foveate.surgery.sites import Site, find_sites

__all__ = [
    "Blend",
    "Blended",
    "Inserted",
    "Site",
    "blend_in",
    "blended",
    "default_sites",
    "find_sites",
    "insert",
    "inserted",
    "load_host",
    "rehearse",
    "remove",
]
