"""What runs on the far side: the fork-server, the walls, the tester and the worker. Standard library only.

Modules here import as little as they can, because a bubblewrapped process pays for it anew each time: no typing, pathlib or
dataclasses at run time, and annotations under TYPE_CHECKING.
"""
