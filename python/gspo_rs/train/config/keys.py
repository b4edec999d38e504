"""Names that other trainers use for keys of a run file: ``lr`` is ``learning_rate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gspo_rs.groups.synonyms import meant

__all__ = ["KEYS", "RENAMED", "near_key"]

# Names that fields had before → those that they have; in a checkpoint they still count.
RENAMED: Mapping[str, str] = {
    "opsm": "off_policy_mask_threshold",
    "shuffle": "shuffle_dataset",
}

# Ours, or several that stand for one of theirs → names of TRL, verl, slime, OpenRLHF and Hugging
# Face, without case and signs as `gspo_rs.groups.synonyms` compares them.
_THEIRS: Mapping[str, str] = {
    "optimizer": "optim optimizertype optimizername optimname",
    "learning_rate": "lr actorlr policylr learnrate baselr",
    "prompts_per_step": (
        "batchsize trainbatchsize perdevicetrainbatchsize ppominibatchsize "
        "minibatchsize globalbatchsize rolloutbatchsize genbatchsize promptsperbatch"
    ),
    "micro_batch_tokens": (
        "gradientaccumulationsteps accumulategradbatches ppomicrobatchsize "
        "ppomicrobatchsizepergpu microbatchsize microtrainbatchsize ppomaxtokenlenpergpu "
        "maxtokenspergpu maxtokensperbatch tokenbudget"
    ),
    "num_generations": (
        "n groupsize rolloutn numreturnsequences numsamples nsamplesperprompt "
        "numgenerationsperprompt generations samplesperprompt k"
    ),
    "clip_low clip_high": (
        "epsilon cliprange cliprangeratio cliprate clipratio epsclip ppoclip clipeps"
    ),
    "clip_high": "epsilonhigh clipratiohigh epscliphigh cliprangehigh",
    "clip_low": "epsilonlow clipratiolow epscliplow cliprangelow",
    "dual_clip": "clipratioc dualclipratio",
    "beta": "klcoef kllosscoef initklcoef klbeta klweight klcoeff klctrl",
    "kl_estimator": "kllosstype klpenalty kltype usebiascorrectionkl",
    "loss": "losstype policyloss lossmode lossfn",
    "reduction": "lossaggmode lossreduction aggregation",
    "advantage": "advestimator advantageestimator scalerewards estimator adv",
    "num_iterations": "mu ppoepochs numppoepochs inneriterations",
    "num_train_epochs": "epochs totalepochs numepochs nepochs maxepochs",
    "max_steps": (
        "steps numsteps totalsteps totaltrainingsteps maxtrainsteps trainsteps iterations"
    ),
    "max_completion_length": (
        "maxlength maxnewtokens maxtokens responselength "
        "maxresponselength maxgenlen maxseqlen maxseqlength completionlength"
    ),
    "max_prompt_length": "promptlength maxpromptlen",
    "model": ("modelnameorpath modelpath modelname basemodel pretrained modelid checkpoint policy"),
    "prompts rollouts": (
        "dataset datasetname trainfiles trainfile data datapath datasetpath traindataset traindata"
    ),
    "split": "datasettrainsplit trainsplit datasetsplit",
    "eval_split": "datasettestsplit testsplit validationsplit",
    "eval_prompts": "valfiles valfile evaldataset validation testfiles",
    "rollout": "rolloutfunc rolloutfn environment environmentfactory",
    "sampler_timeout": "vllmservertimeout",
    "sampler": "vllmserverbaseurl vllmserverhost usevllm vllmmode rolloutname inferenceengine",
    "max_staleness": (
        "stalenessthreshold maxstalenesssteps maxasynclevel maxoffpolicysteps asyncsteps"
    ),
    "reward": (
        "rewardfuncs rewardfunc rewardfunction rewardfn customrewardfunction rewardmodel rewards"
    ),
    "reward_workers": "numrewardworkers rewardnumworkers rewardprocesses",
    "reward_timeout": "rewardfntimeout rewardtimelimit",
    "max_grad_norm": (
        "gradclip clipgrad maxnorm gradientclipping gradientclip gradnorm clipgradnorm"
    ),
    "warmup_steps": "warmup lrwarmupsteps numwarmupsteps warmupratio",
    "lr_scheduler_type": "lrscheduler scheduler schedulertype warmupstyle lrdecaystyle",
    "adam_epsilon": "adameps eps optimeps",
    "adam_beta1 adam_beta2": "betas adambetas",
    "adam_beta1": "beta1",
    "adam_beta2": "beta2",
    "weight_decay": "wd l2",
    "dtype": "bf16 fp16 precision mixedprecision",
    "weights": "modeldtype weightsdtype weightdtype paramdtype torchdtype",
    "lora_r": "lorarank r rank peftr",
    "lora_alpha": "alpha",
    "lora_target_modules": "targetmodules loratargets",
    "lora_merge": "merge mergelora mergeadapter mergeadapters mergeandunload",
    "use_dora": "dora loradora",
    "save_steps": "checkpointsteps savefreq saveinterval checkpointinterval saveevery",
    "save_total_limit": "maxckpttokeep maxactorckpttokeep keeplast keepcheckpoints",
    "logging_steps": "loginterval logsteps logevery",
    "log_completions": "savecompletions rolloutdatadir",
    "eval_steps": "testfreq evalfreq evalinterval evalevery",
    "seed": "randomseed",
    "output_dir": (
        "output outputpath outdir savedir savepath defaultlocaldir checkpointdir "
        "checkpointpath rundir"
    ),
    "gradient_checkpointing": (
        "enablegradientcheckpointing activationcheckpointing gradientcheckpoint recompute"
    ),
    "torch_compile": "compile usetorchcompile",
    "layout": "useremovepadding packing paddingfree samplepacking",
    "attn_implementation": "attnimpl attention flashattn attentionbackend",
    "by": "group groupby groupkey groupid groupcolumn promptid uid",
    "completion": "response completioncolumn responsecolumn responsekey answer",
    "prompt": "promptcolumn promptkey question instruction",
    "chat_template": "chattemplatepath customchattemplate chattemplatefile",
    "chat_template_kwargs": "applychattemplatekwargs templatekwargs enablethinking",
    "stop": "stopstrings stopsequences stopwords",
    "reward_column": "rewardkey score scorecolumn",
    "old_logprobs": "recomputelogprobs",
    "correction": (
        "vllmimportancesamplingmode vllmimportancesamplingcorrection rolloutis tis "
        "rolloutcorrection"
    ),
    "correction_high": (
        "vllmimportancesamplingcap vllmimportancesamplingclipmax rolloutisthreshold tiscap"
    ),
    "correction_low": "vllmimportancesamplingclipmin",
    "off_policy_mask_threshold": "opsm opsmdelta",
    "shuffle_dataset": "shuffle datashuffle shufflebuffer trainsamplingstrategy",
    "on_long": "truncation filteroverlongprompts",
    "mask_truncated": "overlongfilter overlongfiltering maskcompletions masktruncatedcompletions",
    "overlong_penalty": "overlongbuffer softoverlongpunishment softoverlong overlongrewardshaping",
    "overlong_cache": "overlongbufferlen softpunishcache softcachelength overlongbufferlength",
    "algorithm": "algo preset trainer importancesamplinglevel rlalgorithm",
    "steps_per_generation": "numminibatches updatesperrollout",
    "renormalise": "renormalize",
    "dynamic_sampling": "dynamicsample filtergroups dynamicfiltering dynamicsamplingfilter",
    "max_resample": "maxresampletimes maxnumgenbatches dynamicsamplingmaxgenbatches",
    "delta": "upperclip",
    "device": "usecpu",
    "k_neg": "vespokneg",
    "k_pos": "vespokpos",
    "lam_neg": "vespolambdaneg",
    "lam_pos": "vespolambdapos",
    "tau_neg": "sapotemperatureneg",
    "tau_pos": "sapotemperaturepos",
}
# Theirs → ours.
KEYS: Mapping[str, str] = {name: ours for ours, names in _THEIRS.items() for name in names.split()}


def near_key(name: str, known: Iterable[str]) -> str:
    """Return a "did you mean" hint for an unknown key, or where all keys are listed.

    Examples
    --------
    >>> near_key("lr", ["lora_r", "learning_rate"])
    'did you mean `learning_rate`?'
    """
    found = meant(name, known, KEYS)
    if found:
        return f"did you mean {' and '.join(f'`{key}`' for key in found)}?"
    return "`gspo-rs train --help-all` lists all"
