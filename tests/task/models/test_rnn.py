import torch

from lockstep.task.models.rnn import CnnGru, OrthogonalRnn, RowFeatures


def test_the_orthogonal_recurrence_keeps_lengths():
    weight = OrthogonalRnn().rnn.weight_hh_l0.detach().double()
    assert torch.allclose(weight @ weight.T, torch.eye(128, dtype=torch.float64), atol=1e-5)


def test_features_keep_rows_apart():
    """A change in the last rows of an image leaves the features of the first rows as they were."""
    features = RowFeatures()
    images = torch.zeros(2, 1, 28, 28)
    images[1, :, 20:] = 1
    rows = features(images)
    assert rows.shape == (2, 7, 168)
    assert torch.equal(rows[0, :3], rows[1, :3])
    assert not torch.equal(rows[0, 6], rows[1, 6])


def test_its_two_modules_hold_all_parameters():
    names = {name.partition(".")[0] for name, _ in CnnGru().named_parameters()}
    assert names == {"cnn", "gru"}
