"""Images inside containers: archives and tables that hold the encoded bytes of many images.

Each kind of container is a class in a module of its own, with the methods of `container.Container`, and
of `archive_folder.Archive` where its members have names; `loading` knows all kinds. Nothing is unpacked to disk: the
bytes of an image are read from the container whenever they are needed.
"""
