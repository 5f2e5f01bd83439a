"""Whether a data set is complete and undamaged; start with ``verify.verify_dataset``."""
