"""From image files to pixels and features.

Import the modules by name: `folder` and `decoding` need Pillow alone, the others torch.

===============  ==========================================================================
`folder`         which file a name means
`decoding`       pixels from any file that Pillow reads, or why there are none
`loading`        worker processes that read, decode and resize images in batches
`quarantine`     images that cannot be read leave the table here, and nowhere else
`backbones`      any timm network, with weights from the hub, a file or a package
`features`       the backbone over all images
`feature_cache`  features and file digests kept between runs
`pixel_store`    decoded pixels for training: in memory, in a mapped file, or streamed
`augmentation`   shifts and mirror images, in batches on the device
===============  ==========================================================================
"""
