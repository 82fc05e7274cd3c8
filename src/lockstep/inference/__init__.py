"""What a trained run is used for: predictions, and models that other programs load."""

from lockstep.inference.exports import Exported, export
from lockstep.inference.predictions import Answer, predict
from lockstep.inference.predictor import Prediction, Predictor, load

__all__ = ["Answer", "Exported", "Prediction", "Predictor", "export", "load", "predict"]
