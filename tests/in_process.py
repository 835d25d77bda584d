"""The reading's child process without a process, for tests that turn the stages themselves."""

from ovcf_node.workflow import child


class InProcess(child.Children):
    """Performs each job where it is asked for; what the child would answer as an error is raised as it is."""

    def _run(self, job, progress):
        return child._perform(job)
