"""The names that other trainers give to what Lockstep has too, and what to use here instead. Only data."""

from __future__ import annotations

GLOBAL = "--batch.global-size, the samples of a step over all ranks; per forward: --batch.micro-size"
LAUNCHER = "the launcher says it: --processes N on one machine; torchrun, accelerate launch or srun"
PER_STEP = "gradient accumulation is derived: --batch.global-size / (--batch.micro-size * ranks)"
SAME_COMMAND = "the same command resumes its run by itself; --resume-from RUN goes on from another run"
PRECISION = "--precision bf16, fp16 or no"
ON_CPU = "without a GPU it needs none; on a machine with GPUs: ACCELERATE_USE_CPU=1 lockstep train …"
ALWAYS = "checkpoints are always saved; --train.checkpoint-every and --train.keep-checkpoints say which"
RUN_DIR = "--run.dir, which holds a folder for each run; --run.name is the run's own"
ONCE = "--train.eval-every and --train.checkpoint-every, in optimizer steps; 0: once an epoch"
NO_COMPILER = "torch.compile is not used; on a GPU --engine captured replays a step as CUDA graphs"
WARMUP = "--schedule.warmup, a fraction of all steps"
RATE = "--optimizer.lr, the peak rate, which does not grow with the number of ranks"

FOREIGN_NAMES: dict[str, str] = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr", "max_lr", "peak_lr"), RATE),
    **dict.fromkeys(("batch_size", "train_batch_size", "total_batch_size", "bs", "b"), GLOBAL),
    **dict.fromkeys(
        ("per_device_train_batch_size", "micro_batch_size", "batch_size_per_gpu"),
        "--batch.micro-size, the samples of a forward; --batch.global-size is for all ranks together",
    ),
    **dict.fromkeys(
        ("eval_batch_size", "per_device_eval_batch_size", "test_batch_size", "val_batch_size"),
        "--batch.eval-size",
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum_steps", "accum_iter"), PER_STEP
    ),
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs", "num_train_epochs"), "--train.epochs"),
    **dict.fromkeys(
        ("max_steps", "num_steps", "max_iters", "total_steps", "iterations", "num_train_steps"),
        "--train.steps, optimizer steps; they replace --train.epochs",
    ),
    **dict.fromkeys(
        ("num_workers", "workers", "dataloader_num_workers", "num_data_workers", "j"),
        "--data.num-workers, processes per rank; 0 by default",
    ),
    **dict.fromkeys(("weight_decay", "wd"), "--optimizer.weight-decay"),
    **dict.fromkeys(("beta1", "beta2", "adam_beta1", "adam_beta2"), "--optimizer.betas, both: 0.9 0.999"),
    **dict.fromkeys(("eps", "adam_epsilon"), "--optimizer.args.eps"),
    **dict.fromkeys(
        ("grad_clip", "clip_grad", "clip_grad_norm", "gradient_clip_val", "max_grad_norm", "max_norm"),
        "--optimizer.max-grad-norm, of the whole gradient over all ranks",
    ),
    **dict.fromkeys(("optimizer", "optim", "opt"), "--optimizer.name"),
    **dict.fromkeys(
        ("scheduler", "sched", "lr_scheduler", "lr_scheduler_type", "schedule", "gamma"), "--schedule.name"
    ),
    **dict.fromkeys(("warmup_steps", "warmup_ratio", "num_warmup_steps", "warmup_epochs"), WARMUP),
    **dict.fromkeys(("label_smoothing_factor", "smoothing"), "--loss.label-smoothing"),
    **dict.fromkeys(("model", "arch", "model_name", "model_type"), "--model.name"),
    **dict.fromkeys(("dataset", "dataset_name"), "--data.name"),
    **dict.fromkeys(("data_dir", "data_path", "datadir", "dataset_path"), "--data.root"),
    **dict.fromkeys(
        ("output_dir", "out_dir", "save_dir", "log_dir", "logging_dir", "default_root_dir"), RUN_DIR
    ),
    **dict.fromkeys(("run_name", "experiment_name", "exp_name"), "--run.name"),
    **dict.fromkeys(("resume", "resume_from_checkpoint", "ckpt_path", "load_checkpoint"), SAME_COMMAND),
    **dict.fromkeys(("fp16", "bf16", "amp", "mixed_precision", "dtype", "half"), PRECISION),
    **dict.fromkeys(
        ("gpus", "devices", "num_gpus", "ngpus", "n_gpu", "nproc_per_node", "num_processes", "world_size"),
        LAUNCHER,
    ),
    **dict.fromkeys(("num_nodes", "nnodes", "strategy", "accelerator", "local_rank"), LAUNCHER),
    **dict.fromkeys(("no_cuda", "use_cpu", "cpu", "device"), ON_CPU),
    **dict.fromkeys(
        ("log_interval", "logging_steps", "log_every_n_steps", "print_freq", "log_freq"),
        "--train.log-every, in optimizer steps",
    ),
    **dict.fromkeys(
        ("eval_interval", "eval_steps", "val_check_interval", "check_val_every_n_epoch", "eval_freq"),
        "--train.eval-every, in optimizer steps; 0: once an epoch",
    ),
    **dict.fromkeys(
        ("save_interval", "save_steps", "save_freq", "checkpoint_interval", "save_every"),
        "--train.checkpoint-every, in optimizer steps; 0: once an epoch",
    ),
    **dict.fromkeys(
        ("save_total_limit", "save_top_k"), "--train.keep-checkpoints; the best one is kept as well"
    ),
    **dict.fromkeys(("eval_strategy", "evaluation_strategy", "save_strategy"), ONCE),
    **dict.fromkeys(("compile", "torch_compile", "torchcompile"), NO_COMPILER),
    **dict.fromkeys(("img_size", "input_size"), "--data.image-size"),
    **dict.fromkeys(("early_stopping_patience", "early_stopping"), "--train.patience"),
    **dict.fromkeys(("model_ema", "model_ema_decay", "ema_decay"), "--train.ema"),
    **dict.fromkeys(("push_to_hub",), "lockstep export writes a folder for Hugging Face, to be uploaded"),
    **dict.fromkeys(("eval_only", "evaluate", "do_eval"), "lockstep evaluate RUN scores a run"),
    **dict.fromkeys(("backend", "dist_backend"), "NCCL connects GPUs and gloo CPUs; leave it out"),
    **dict.fromkeys(("save_model", "save_checkpoint"), ALWAYS),
    **dict.fromkeys(
        ("dry_run", "fast_dev_run"), "--train.steps 1 takes one step; lockstep doctor checks without any"
    ),
    **dict.fromkeys(
        ("report_to", "wandb", "wandb_log", "use_wandb", "no_wandb"),
        "--tracking.mode auto, online, offline or disabled",
    ),
    **dict.fromkeys(("project", "wandb_project", "project_name"), "--tracking.project"),
    **dict.fromkeys(("entity", "wandb_entity"), "--tracking.entity"),
}
"""Name, without dashes or sections → the answer: our option, and what is different about it."""
