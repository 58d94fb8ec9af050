"""Path smoothers, one file each. `gaussian` is the smallest: copy it to add one."""
