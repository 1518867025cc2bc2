"""The command line: train on the digits, or on the user's own table.

=================  ===========================================================================
`command`          `main`: run the command, and turn errors into a line and an exit status
`options`          what can be asked for, the defaults, and ``--help``
`digits`, `table`  the two runs, with the Python code that repeats or uses them
`estimator`        that of `table` where it holds text or lacks values: TabPack or TabM
`prediction`       the run with ``--predict``
`subcommands`      which there are; ``fastbp export`` and ``fastbp predict``
`explanation`      ``fastbp explain``
`completion`       ``fastbp completion``: a script for a shell
`saved`            models from files, and what is known about them
`tasks`            whether a table's target is classified or regressed, and how it is scored
`training`         training, with a report of what is trained and how
`output`           the folder that results are saved in
=================  ===========================================================================
"""
