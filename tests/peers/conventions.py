"""How each peer says what bnorm says; the tests convert by these rows, and test_conventions.py asks the peers.

                        PyTorch           TensorFlow fused        TensorFlow moments  Keras
    scale, shift        weight, bias      scale, offset           scale, offset       gamma, beta
    average_factor      momentum          exponential_avg_factor  none                1 - momentum
      default           0.1               1                                           0.01
      cumulative        momentum=None     none                                        none
      outside [0, 1]    taken             taken                                       taken
    running variance    unbiased          unbiased                none                biased
    saved statistics    mean, inv_std     mean, biased variance   mean, variance      none
    epsilon by default  1e-5              1e-4                    none                1e-3
    frozen              eval()            is_training=False       given statistics    training=False, trainable=False
    types               f32 f64           f32                     f32 f64             f32 f64
    layouts             any               channels-last, rank     any                 any, by axis
                                          4 and 5
    M = 0               running_* kept    NaN                     -                   -
    M = 1               refused (native   unbiased = biased       -                   -
                        call: NaN)

bnorm refuses an average_factor outside [0, 1], keeps running_* for M = 0, and for M = 1 takes the biased variance, 0.
TensorFlow's fused operation on five axes leaves its saved statistics unset in inference: its gradient is given the
running statistics themselves. Fields of bnorm: biased_running_var 0 is unbiased (the default), 1 biased.
A cumulative average is args.average_factor = 1 / (k + 1) for batch k = 0, 1, ...
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """One peer's column of the table above, in bnorm's words."""

    momentum_keeps_old: bool  # the peer's momentum is the weight of the old value
    biased_running_var: bool
    epsilon: float  # defaults
    average_factor: float

    def momentum(self, average_factor: float) -> float:
        return 1 - average_factor if self.momentum_keeps_old else average_factor


PYTORCH = Convention(momentum_keeps_old=False, biased_running_var=False, epsilon=1e-5, average_factor=0.1)
TENSORFLOW_FUSED = Convention(momentum_keeps_old=False, biased_running_var=False, epsilon=1e-4, average_factor=1.0)
KERAS = Convention(momentum_keeps_old=True, biased_running_var=True, epsilon=1e-3, average_factor=0.01)
