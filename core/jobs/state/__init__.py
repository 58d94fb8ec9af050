"""The state of a job: its files, their names and what they are valid for.

In reading order: stable_names, fingerprint, job_files, layout, folder.
"""
