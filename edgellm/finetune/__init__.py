"""Making a model yours: data checked, an adapter trained beside the base, which stays as it is.

`data` reads and refuses, `layout` says what a model sees of an example, `lengths` counts, `report` sums up; none of them needs
torch. `base`, `train` and `checkpoint` do, and import it inside their functions. Converting and running adapters is elsewhere.
"""
