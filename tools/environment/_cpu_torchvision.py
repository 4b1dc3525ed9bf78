"""Start-up hook of the development environment: lets a CUDA-built torchvision be imported beside a CPU torch.

Its compiled half cannot load there, and `import torchvision` then fails for want of the schemas of two operators.
The hook acts once, when torchvision is first imported, and only where torch has no CUDA. `make setup` puts it into
the virtual environment; the product never contains it.
"""

import sys
from importlib.abc import MetaPathFinder


class _DeclareOperators(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            self.library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # alive as long as this object
            for operator in ("nms", "qnms"):
                schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                self.library.define(schema)  # type: ignore[no-untyped-call]


_finder = _DeclareOperators()
sys.meta_path.insert(0, _finder)
