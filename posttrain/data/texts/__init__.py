"""Raw text: from files of several kinds and from what is installed on the machine, one document at a time."""
