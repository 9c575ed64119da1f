"""Folders of cases from files to files: `folder` runs over them, `one_case` does one."""
