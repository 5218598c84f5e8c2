"""The README's example: needs a server at 127.0.0.1:7600 and the client (clients/python)."""

import numpy as np
from azimuth_db import Client, VectorField

with Client("127.0.0.1:7600") as db:
    db.drop_collection("quickstart", if_exists=True)
    items = db.create_collection(
        "quickstart", {"image": VectorField(dim=784, metric="l2")}, {"label": "int64"}
    )
    images, labels = np.random.rand(1000, 784), np.arange(1000) % 10
    items.insert(keys=np.arange(1000), vectors=images, fields={"label": labels})
    for hit in items.search(images[0], limit=5, filter="label == $l", params={"l": 3}):
        print(hit.key, hit.distance, hit.fields["label"])
    items.update([0], fields={"label": [3]})  # the image stays
