"""What a job needs beside its work: the run folder, its log, progress, and what it will cost."""
