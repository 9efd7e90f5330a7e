"""``segma-fast explore``: the page of a trained model."""

from __future__ import annotations

from pathlib import Path

from segma_fast.trainer.commands.trained_model import DEFAULT_RUN, as_command
from segma_fast.trainer.run import load_run


@as_command
def explore(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    port: int = 7860,
    host: str = "127.0.0.1",
    browser: bool = True,
) -> None:
    """Explore the latent space of a trained model in a browser: map, drawing, style transfer, samples.

    examples:
      segma-fast explore
      segma-fast explore --run-dir runs/mnist --port 8000 --no-browser

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        port: of the page
        host: address to serve on; others than this machine's own let others in, without a password
        browser: open it in the browser, where there is one
    """
    from segma_fast.trainer.explore.explorer import Explorer
    from segma_fast.trainer.explore.serve import check_address, serve

    check_address(host, port)
    print(f"encoding the test pictures of {run_dir} and drawing their map …", flush=True)
    serve(Explorer(load_run(run_dir, dataset=dataset)), host, port, browser)
