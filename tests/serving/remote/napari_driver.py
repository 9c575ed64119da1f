"""What a user does in napari with its nnInteractive plug-in, by mouse, on `litemedsam serve`.

Run by a Python that has napari and napari-nninteractive (see .ci/napari.txt), with a
display, such as Xvfb's. Arguments: the Python that has litemedsam_jax, the weights, a case (npz), a
folder for pictures.
"""

import subprocess
import sys
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

SECONDS = 120.0


class Server:
    """`litemedsam serve`, which may be killed and started again on its port."""

    def __init__(self, python: str, weights: str):
        self.command = [python, "-m", "litemedsam_jax", "serve", "--weights", weights, "--port"]
        self.port = "0"
        self.start()

    def start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*self.command, self.port], stdout=pipe, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("serving http://"), line
        self.address = line.split()[1]
        self.port = self.address.rpartition(":")[2]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Napari:
    """napari with an image and the plug-in."""

    def __init__(self, image: np.ndarray, address: str):
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1366, 900)
        self.image = self.viewer.add_image(image, name="image", scale=(3, 1, 1))
        _, self.plugin = self.viewer.window.add_plugin_dock_widget("napari-nninteractive")
        self.plugin.server_url_edit.setText(address)
        self.warnings: list[str] = []

    def initialize(self) -> None:
        self.plugin.init_button.click()
        self.wait(self._ready, "the image to be sent")
        self.plugin.interaction_button._on_button_pressed(1)  # BBox
        self.pump(0.3)

    def _ready(self) -> bool:
        session = self.plugin.session
        sent = session is not None and session.target_buffer is not None
        return sent and self.plugin._upload_dialog is None

    def pump(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.instance().processEvents()
            time.sleep(0.005)

    def wait(self, until, what: str) -> None:
        end = time.monotonic() + SECONDS
        while not until():
            assert time.monotonic() < end, f"waited for {what}"
            self.pump(0.02)

    def draw_box(self, index: int, x_min: int, y_min: int, x_max: int, y_max: int) -> None:
        """Drags from one corner to the other; the plug-in waits for the answer meanwhile."""
        self.viewer.dims.set_current_step(0, index)
        self.pump(0.2)
        native = self.viewer.window._qt_viewer.canvas.native
        start, end = self._at(y_min, x_min), self._at(y_max, x_max)
        QTest.mousePress(native, Qt.LeftButton, Qt.NoModifier, start)
        for part in np.linspace(0, 1, 9)[1:]:
            point = QPointF(start + (end - start) * float(part))
            event = QMouseEvent(
                QEvent.MouseMove, point, QPointF(native.mapToGlobal(point.toPoint())),
                Qt.LeftButton, Qt.LeftButton, Qt.NoModifier,
            )  # fmt: skip
            QApplication.sendEvent(native, event)
            self.pump(0.02)
        QTest.mouseRelease(native, Qt.LeftButton, Qt.NoModifier, end)
        self.pump(0.3)

    def _at(self, row: float, column: float) -> QPoint:
        canvas = self.viewer.window._qt_viewer.canvas
        scale = self.image.scale
        x, y = canvas.view.scene.transform.map([column * scale[2], row * scale[1]])[:2]
        return QPoint(round(x), round(y))

    @property
    def mask(self) -> np.ndarray:
        return self.viewer.layers[self.plugin.label_layer_name].data

    def slices(self) -> list[int]:
        return np.flatnonzero(self.mask.any(axis=(1, 2))).tolist()

    def picture(self, path: Path) -> None:
        self.viewer.layers[self.plugin.label_layer_name].opacity = 0.6
        boxes = self.viewer.layers[self.plugin.bbox_layer_name]
        boxes.visible = False
        self.pump(0.5)
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        boxes.visible = True


def main(python: str, weights: str, case: str, folder: Path) -> None:
    data = np.load(case)
    x_min, y_min, z_min, x_max, y_max, z_max = map(int, data["boxes"][0])
    middle = (z_min + z_max) // 2
    box = (x_min, y_min, x_max, y_max)
    server = Server(python, weights)
    try:
        user = Napari(data["imgs"], server.address)
        user.initialize()
        buttons = [b.isEnabled() for b in user.plugin.interaction_button.buttons]
        assert buttons == [False, True, False, True], buttons  # point, box, scribble, lasso
        user.draw_box(middle, *box)
        first = user.mask.copy()
        slices = user.slices()
        assert middle in slices and 3 <= len(slices) <= 15, slices
        user.picture(folder / "napari.png")

        user.plugin.on_undo()
        assert not user.mask.any()
        user.plugin.propagate_ckbx.setChecked(False)  # Auto-zoom
        user.draw_box(middle, *box)
        assert user.slices() == [middle]
        user.plugin.on_undo()
        user.plugin.propagate_ckbx.setChecked(True)
        user.draw_box(middle, *box)
        np.testing.assert_array_equal(user.mask > 0, first > 0)

        server.kill()
        user.draw_box(middle + 1, *box)
        assert user.plugin.remote_status_label.text() == "session lost"
        server.start()
        user.initialize()
        user.draw_box(middle, *box)
        assert (user.mask > 0)[first > 0].all()
        user.plugin.on_next()
        assert not user.mask.any()
        names = [layer.name for layer in user.viewer.layers]
        assert any(name.startswith("object 1") for name in names), names
    finally:
        server.kill()
    print("napari", napari.__version__, "slices", slices, "voxels", int((first > 0).sum()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
