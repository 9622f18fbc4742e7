from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from labelfix.errors import BackboneError
from labelfix.images import backbones
from labelfix.images.backbones import load_backbone


def test_embedded_weights_are_an_imagenet_model() -> None:
    backbone = load_backbone("embedded", image_size=64)
    assert (backbone.dim, backbone.side, backbone.architecture) == (1280, 64, "tf_efficientnet_lite0")
    assert not backbone.module.training
    # Pinned: a wrong mapping of any tensor changes the digest of the weights that were loaded.
    assert backbone.weights_digest == "c9ec34469a3a4123ca08bcf3bdc125c2"


def test_embedded_mapping_is_complete() -> None:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = backbones._embedded_weights()
    assert set(state) == set(model.state_dict())
    assert all(state[k].shape == v.shape for k, v in model.state_dict().items())


def test_embedded_network_tells_classes_apart() -> None:
    """A blank wall and a striped one get different ImageNet classes, with the full classifier in place."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(backbones._embedded_weights())
    model.eval()
    stripes = ((torch.arange(96) // 6 % 2) * 2.0 - 1).expand(3, 96, 96)
    with torch.inference_mode():
        probs = model(torch.stack([stripes, torch.ones(3, 96, 96)])).softmax(1)
    assert probs[0].argmax() != probs[1].argmax()
    assert probs.max() > 0.05  # an untrained network stays near 1/1000


def test_damaged_embedded_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(BackboneError, match="is damaged"):
        load_backbone("embedded")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_local_checkpoint(tmp_path: Path, ending: str) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=7)  # another head than ImageNet's
    path = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    else:
        save_file(model.state_dict(), path)
    backbone = load_backbone("test_resnet", checkpoint=str(path), image_size=64)
    model.reset_classifier(0)
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.module(x), model(x))


def test_transformer_takes_the_image_size(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", pretrained=False, img_size=64)
    path = tmp_path / "vit.pth"
    torch.save(model.state_dict(), path)
    assert load_backbone("test_vit", checkpoint=str(path), image_size=64).side == 64


def test_checkpoint_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("test_efficientnet", pretrained=False).state_dict(), path)
    with pytest.raises(BackboneError, match=r"does not fit the network 'test_resnet'.*missing"):
        load_backbone("test_resnet", checkpoint=str(path))


def test_checkpoint_that_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "notes.pth"
    path.write_text("not weights")
    with pytest.raises(BackboneError, match="cannot be read as weights"):
        load_backbone("test_resnet", checkpoint=str(path))
    with pytest.raises(BackboneError, match="there is no such file"):
        load_backbone("test_resnet", checkpoint=str(tmp_path / "absent.pth"))


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"weight": print}, path)
    with pytest.raises(BackboneError, match="cannot be read as weights"):
        load_backbone("test_resnet", checkpoint=str(path))


def test_unknown_name_has_suggestions() -> None:
    with pytest.raises(BackboneError, match=r"Did you mean .*resnet"):
        load_backbone("resnet81")


@pytest.mark.parametrize("name", ["resnet18", "hf-hub:timm/resnet18.a1_in1k"])
def test_no_hub_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=r"cannot be had.*--checkpoint FILE"):
        load_backbone(name)


def test_impossible_image_size(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    with pytest.raises(BackboneError, match=r"--image-size|does not fit"):
        load_backbone("test_vit", checkpoint=str(path), image_size=40)
