"""The value models that the benches compare, by the settings of EVOR that make them."""

from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    'velocity': dict(value_model='flow', td_target='velocity'),
    'velocity, successor': dict(value_model='flow', td_target='velocity_successor'),
    'coupled, lam 0': dict(value_model='flow', td_target='coupled', lam=0.0),
    'coupled, no mean share': dict(value_model='flow', td_target='coupled', mean_share=0.0),
    'coupled, lam 0.5': dict(value_model='flow', td_target='coupled', lam=0.5),
    'coupled, lam 1': dict(value_model='flow', td_target='coupled', lam=1.0),
    'trunk, lam 0': dict(value_model='flow', td_target='coupled', lam=0.0, value_net='trunk'),
    'scalar': dict(value_model='scalar'),
    'scalar, clipped': dict(value_model='scalar', clip_returns=True),
    'C51': dict(value_model='categorical'),
    'QR-DQN': dict(value_model='quantile'),
    'IQN': dict(value_model='implicit_quantile'),
}
FLOWS = tuple(name for name, settings in MODELS.items() if settings['value_model'] == 'flow')
