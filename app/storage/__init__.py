"""Where bytes are kept: a local folder or an S3 bucket, behind one contract."""

from app.storage.base import MAX_PARTS, MIN_PART_BYTES, Part, Store, StoredObject
from app.storage.open import open_store

__all__ = ["MAX_PARTS", "MIN_PART_BYTES", "Part", "Store", "StoredObject", "open_store"]
