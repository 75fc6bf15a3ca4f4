"""What runs on the far side: the fork-server, the walls, the tester and the worker. Standard library only, nothing of ours."""
