"""Part *correct*: results match a CPU's. The most valuable checks come first."""

from benchmarks.gpu_parts import check_layers, check_ranks, check_training
from benchmarks.gpu_parts.steps import Step

STEPS = (
    Step("types", 40, check_layers.types),
    Step("triton", 90, check_layers.triton),
    Step("cells", 90, check_layers.cells),
    Step("crf_and_search", 40, check_layers.crf_and_search),
    Step("host_syncs", 60, check_training.host_syncs),
    Step("collectives", 40, check_ranks.collectives),
    Step("train_fp32", 90, check_training.train_fp32),
    Step("train_bf16", 90, check_training.train_bf16),
    Step("train_fp16", 90, check_training.train_fp16),
    Step("deterministic_runs", 90, check_training.deterministic_runs),
    Step("equal_runs", 60, check_training.equal_runs),
    Step("shared_gpu", 120, check_ranks.shared_gpu),
    Step("stop_and_kill", 120, check_ranks.stop_and_kill),
    Step("elastic", 90, check_ranks.elastic),
    Step("overflow", 40, check_training.overflow),
    Step("out_of_memory", 40, check_training.out_of_memory),
    Step("too_many_ranks", 40, check_ranks.too_many_ranks),
)
