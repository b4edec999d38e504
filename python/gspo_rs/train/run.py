"""The state of a training run, from its first batch of rollouts to its last step."""

import copy
import dataclasses
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train import (
    checkpoint,
    evaluate,
    final,
    fit,
    halfway,
    in_flight,
    reference,
)
from gspo_rs.train.config.config import Config
from gspo_rs.train.console import Display
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.halfway import Halfway
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.interruptions import Interruptions
from gspo_rs.train.ledger import Ledger
from gspo_rs.train.long_prompts import without_long
from gspo_rs.train.metrics import MetricsFile, describe, shares
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.model.sharded import collected_in_parts
from gspo_rs.train.random_state import Generators
from gspo_rs.train.reference import Reference
from gspo_rs.train.reward_functions import reward_functions
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.logged_completions import log
from gspo_rs.train.rollout.reward_log import means_of
from gspo_rs.train.rollout.samplers import sampler_of
from gspo_rs.train.sampling import Sampling
from gspo_rs.train.step import update as step
from gspo_rs.train.step.minibatch import Minibatch
from gspo_rs.train.step.optimizer import learning_rate, make_optimizer
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.trainer_state import TrainerState, state_of
from gspo_rs.train.watch import Watch, refuse_long_prompts, refuse_no_room
from gspo_rs.train.world import ALONE, World

_log = logging.getLogger("gspo_rs")


@dataclass
class Run:
    """The state of a run: everything that changes while it trains.

    At any moment at which interruptions are not held, `save` writes a state from which a run goes
    on to the same bits.
    """

    config: Config
    policy: Policy
    optimizer: torch.optim.Optimizer
    data: Dataset
    total: int
    frozen: Policy | None
    interruptions: Interruptions
    memory: str
    stored: torch.dtype = torch.float32
    reference: Reference | None = None
    baseline: evaluate.Baseline | None = None
    step: int = 0
    batches: int = 0
    halfway: Halfway | None = None
    over: Rollouts | None = None
    watch: Watch = field(default_factory=Watch)
    unrecorded: dict[str, float] | None = None
    latest: dict[str, float] = field(default_factory=dict)
    saved: int = -1
    generators: Generators = field(init=False)
    sampling: Sampling = field(init=False)
    file: MetricsFile = field(init=False)
    ledger: Ledger = field(init=False)
    display: Display = field(init=False)

    @classmethod
    def begin(
        cls,
        config: Config,
        inputs: Inputs,
        data: Dataset,
        found: checkpoint.Checkpoint | None,
        *,
        interruptions: Interruptions,
        world: World = ALONE,
        shown: bool = True,
    ) -> "Run":
        """Load model, optimizer and data, from a checkpoint if there is one.

        Where the run is `shown`, its memory is estimated.
        """
        rewards = reward_functions(config, inputs) if config.online else {}
        start, known = inputs, None if found is None else reference.restored(found.tensors)
        second = reference.needs_second(config, data, known, resumed=found is not None)
        if inputs.model is not None and second and not config.lora_r:
            # Before it is trained, or gets the weights of a checkpoint.
            start = dataclasses.replace(inputs, model=copy.deepcopy(inputs.model))
        policy = policies.load(config, None if found is None else found.model, inputs, world)
        refuse_no_room(policy, config)
        data = without_long(data, policy, config)
        frozen = policies.freeze(config, start, world) if second else None
        policy = policies.shared(policy, config)
        given = policy, config, data.source
        config, memory = fit.begun(*given, reference=frozen is not None, shown=shown)
        # After it is cut over the processes: of weights that are whole it would train those.
        optimizer = make_optimizer(policy, config)
        optimizer.register_step_pre_hook(interruptions.hold)
        run = cls(
            config=config,
            policy=policy,
            optimizer=optimizer,
            data=data,
            total=data.steps(config),
            frozen=frozen,
            memory=memory,
            interruptions=interruptions,
            stored=final.stored_in(config, inputs, found),
            reference=known,
        )
        sampler = sampler_of(config, inputs)
        run.generators = Generators.now(policy.device)
        run.sampling = Sampling(policy, config, run.data, rewards, sampler, run._state)
        if found is not None:
            run._restore(found)
        return run

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        names = list(self.policy.trainable())
        checkpoint.restore_optimizer(self.optimizer, names, found.tensors)
        found.generators.restore(self.policy.device)
        self.generators = found.generators
        self.step, self.batches, self.saved = found.step, found.batches, found.step
        self.unrecorded = found.unrecorded
        self.halfway = halfway.restored(found.tensors, self.config)
        self.over = halfway.kept_in(found.tensors)
        self.sampling.in_flight = in_flight.restored(found.tensors)
        if "eval/pool" in found.tensors and self.data.exam is not None:
            self.baseline = evaluate.Baseline(self.data.exam, found.tensors["eval/pool"].numpy())

    def go(self, folder: Path) -> None:
        """Train until the last step, and write a checkpoint of it."""
        every = self.config.save_steps
        # A batch that is half used has been drawn already.
        half = 0 if self.halfway is None else self.halfway.rollout_batch.rounds
        self.sampling.start(
            self.batches + half,
            within=self.halfway is not None,
            over=self.over,
            total=self.total,
            report=self.display.report,
        )
        if self.unrecorded is not None:
            self._record_step()
        while self.step < self.total:
            self.interruptions.stop_with(self.policy.world)
            if self.halfway is None:
                self._receive()
            else:
                self._learn()
            if self.halfway is None and every and self.step // every > self.saved // every:
                self.save(folder)
        if every and self.saved < self.step:
            self.save(folder)

    def close(self) -> None:
        """Close its files, and end what works for it."""
        self.file.close()
        self.ledger.close()
        self.sampling.close()

    def _state(self) -> TrainerState:
        """Return what reward functions are told about the run."""
        return state_of(self.config, self.data, self.step)

    def _receive(self) -> None:
        """Fetch a batch of rollouts; the state changes only once the batch is complete."""
        self.generators, dropped, skipped = Generators.now(self.policy.device), 0, 0
        while True:
            batch = self.sampling.next()
            began = time.perf_counter()
            cuts = prepare.minibatches(batch, self.config)
            dropped += batch.dropped
            if cuts:
                break
            skipped += 1
            refuse_long_prompts(skipped, self.data.n_groups, self.config)
        self.watch.rows(batch, self.batches, self.data.batches(self.config))
        self.display.report("preparing")
        known = None if self.reference is None else self.reference.of
        prepared = prepare.prepare_batches(cuts, self.policy, self.config, self.frozen, known=known)
        seconds = {**batch.seconds, "time/prepare": time.perf_counter() - began}
        batch = dataclasses.replace(batch, seconds=seconds)
        self.interruptions.hold()
        self.batches += skipped
        self.generators = Generators.now(self.policy.device)
        self.halfway = Halfway(batch, cuts, prepared, dropped=dropped, left_out=batch.left_out)
        self.over = batch.over
        self.sampling.commit()
        self.interruptions.release()

    def _learn(self) -> None:
        """Take one optimizer step of the batch."""
        assert self.halfway is not None
        main = self.policy.world.main
        if main and self.config.log_completions and not self.halfway.done:
            log(Path(self.config.output_dir), self.halfway.cuts, self.step + 1)
        self.display.report("training")
        place = self.halfway.done % len(self.halfway.training_batches)
        self._step(self.halfway.cuts[place], self.halfway.training_batches[place])

    def _step(self, minibatch: Minibatch, training_batch: TrainingBatch) -> None:
        """Take one optimizer step and log it."""
        assert self.halfway is not None
        began = time.perf_counter()
        metrics = describe(minibatch) | self.halfway.rollout_batch.sampling
        metrics |= means_of(self.halfway.rollout_batch.logged)
        dropped = 0 if self.halfway.done else self.halfway.dropped
        metrics["dropped_prompts"] = float(dropped + (0 if self.step else self.data.dropped))
        number = self.step + 1
        if len(minibatch.trained):
            rate = learning_rate(self.config, number, self.total)
            sampler = None if self._moved(minibatch) else minibatch.rollouts.sampler_logprobs
            metrics |= step.take(
                self.policy,
                self.optimizer,
                training_batch,
                self.config,
                rate=rate,
                sampler=None if sampler is None else minibatch.sampled(sampler),
            )
        else:
            _log.warning("step %d: no group has a signal; the weights are not updated", number)
        self.watch.advantages(metrics, number, self.config)
        shared, inner = self.halfway.rollout_batch.seconds, self.halfway.steps(self.config)
        metrics |= shares(shared, inner, time.perf_counter() - began, metrics["tokens"])
        self.interruptions.hold()
        self._advance(metrics)
        self._record_step()

    def _moved(self, minibatch: Minibatch) -> bool:
        """Return whether the weights are others than those that sampled a minibatch."""
        assert self.halfway is not None
        versions = minibatch.rollouts.policy_versions
        return self.halfway.done > 0 or (
            versions is not None and bool((versions.values != self.step).any())
        )

    def _advance(self, metrics: dict[str, float]) -> None:
        """Count a step whose weights have been updated."""
        assert self.halfway is not None
        self.step, self.unrecorded = self.step + 1, metrics
        self.ledger.write(self.step, self.halfway)
        done = self.halfway.done + 1
        self.halfway = dataclasses.replace(self.halfway, done=done)
        if done == self.halfway.steps(self.config):
            self.batches += self.halfway.rollout_batch.rounds
            self.halfway = None
            self.sampling.trained()

    def _record_step(self) -> None:
        """Log the last step, with a comparison where one is due."""
        assert self.unrecorded is not None
        metrics, every = self.unrecorded, self.config.eval_steps
        if self.step == self.total or (every and self.step % every == 0):
            self.interruptions.release()
            metrics |= self._compare()
        self._record(metrics)
        self.watch.step(metrics, self.step, self.config)

    def compare_start(self) -> None:
        """Sample the starting policy's pool of rewards, the baseline of all comparisons."""
        prompts = self.data.exam
        if prompts is None or self.baseline is not None:
            return
        pool, logged = self.sampling.evaluated(prompts, draw=0, report=self.display.report)
        self.interruptions.hold()
        self.baseline = evaluate.Baseline(prompts, pool)
        self._record(evaluate.compare(pool, pool) | logged)
        self.interruptions.release()

    def _compare(self) -> dict[str, float]:
        if self.baseline is None:
            return {}
        rewards, logged = self.sampling.evaluated(
            self.baseline.prompts, draw=1, report=self.display.report
        )
        return {**evaluate.compare(rewards, self.baseline.pool), **logged}

    def _record(self, metrics: dict[str, float]) -> None:
        self.interruptions.hold()
        self.latest, self.unrecorded = self.file.write(self.step, metrics), None
        self.interruptions.release()
        self.display.show(self.latest)

    def save(self, folder: Path) -> None:
        """Write a checkpoint of the current state."""
        main, tensors = self.policy.world.main, dict[str, Tensor]()
        if self.baseline is not None:
            tensors["eval/pool"] = torch.from_numpy(self.baseline.pool)
        for part in (self.halfway, self.reference):
            tensors |= {} if part is None else part.tensors()
        tensors[final.STORED] = torch.empty(0, dtype=self.stored)
        if self.over is not None:
            tensors |= halfway.kept(self.over)
        tensors |= self.sampling.tensors()
        with self.display.timed("checkpoint"):
            weights = self.policy.weights()
            named = checkpoint.optimizer_tensors(self.optimizer, list(self.policy.trainable()))
            parts = collected_in_parts(named, keep=main)
            if main:
                checkpoint.write(
                    folder,
                    lambda place: self.policy.save(place, weights),
                    tensors,
                    optimizer=parts,
                    step=self.step,
                    batches=self.batches,
                    config=self.config,
                    generators=self.generators,
                    data=self.data.fingerprints,
                    unrecorded=self.unrecorded,
                )
            for _ in parts:  # which all ranks gather
                pass
            self.policy.world.barrier()
        self.saved = self.step
